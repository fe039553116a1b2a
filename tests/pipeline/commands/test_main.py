"""The command itself: its verbs, its exit codes, its errors, and whose packages it runs."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import orjson
import pytest

from pipeline.main import VERBS, aiops
from pipeline.ownership import HOME, PACKAGES, foreign_packages, owners_of
from tests.pipeline.commands.calling import call, start, started
from tests.polling import wait_until

HEAVY = ("asyncio", "asyncpg", "orjson", "psutil", "pydantic", "redis", "rich", "topology")


def leaves(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for each in command.commands.values():
            yield from leaves(each, f"{name} {each.name}")
    else:
        yield name, command


def test_help_names_every_verb_and_loads_none_of_their_libraries() -> None:
    asking = (
        "import sys\n"
        "from pipeline.main import main\n"
        "try:\n    main()\n"
        f"finally:\n    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", asking, "--help"], capture_output=True, text=True, check=False, cwd=HOME
    )

    assert done.returncode == 0
    assert [name for name in VERBS if name not in done.stdout] == []
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_where_the_table_says_and_explains_itself(verb: str) -> None:
    result = call(verb, "--help")

    assert result.exit_code == 0, result.output
    assert f"Usage: aiops {verb}" in result.stdout


def test_every_verb_that_ends_with_an_answer_can_give_it_as_json() -> None:
    context = click.Context(aiops)
    without = []
    for verb in VERBS:
        command = aiops.get_command(context, verb)
        assert command is not None
        without += [name for name, leaf in leaves(command, verb) if "as_json" not in {p.name for p in leaf.params}]

    assert without == ["worker"], "a worker has no answer: it runs until it is stopped"


def test_the_version_is_the_distributions() -> None:
    assert start("--version").stdout.startswith("aiops 0.")


@pytest.mark.parametrize(
    ("arguments", "environment", "exit_code", "said"),
    [
        (["topology", "check"], {}, 0, ""),
        (["ingest", "events", __file__], {}, 1, "found no JSON"),
        (["nosuchverb"], {}, 2, "no such verb: nosuchverb"),
        (["incident"], {}, 2, "did you mean incidents?"),
        (["ingest", "nosuchformat", "-"], {}, 2, "'alertmanager', 'cloudevents', 'events'"),
        (["tap", "nosuchstream"], {}, 2, "expected one of intake"),
        (["topology", "describe", "nosuchfile.yaml"], {}, 78, "cannot read the topology"),
        (["stop"], {"AIOPS_DOOR_PORT": "many"}, 78, "AIOPS_DOOR_PORT"),
        (["tap", "signals"], {"REDIS_URL": "localhost"}, 78, "REDIS_URL: found no address of a Redis"),
        (["run"], {"DATABASE_URL": "localhost"}, 78, "DATABASE_URL: found no address of a PostgreSQL"),
        (["run", "--stages", "normalise"], {}, 2, "found --stages 'normalise', expected some of normalize, "),
        (["worker", "--stages", "normalize,"], {}, 2, "expected some of normalize, "),
        (["worker", "--stages", ""], {}, 2, "expected some of normalize, "),
        (["run", "--probe", "shop=localhost"], {}, 2, "expected an address such as http://"),
        (["run", "--probe", "shop=http://"], {}, 2, "expected an address such as http://"),
        (["stop"], {"AIOPS_STATE_DIR": __file__}, 0, ""),
        (["top", "--once"], {"REDIS_URL": "redis://127.0.0.1:1"}, 1, "does what REDIS_URL names run?"),
        (
            ["incidents", "list"],
            {"DATABASE_URL": "postgresql://127.0.0.1:1/db"},
            1,
            "does what DATABASE_URL names run?",
        ),
    ],
)
def test_the_exit_code_says_what_to_do_and_stderr_why(
    arguments: list[str], environment: dict[str, str], exit_code: int, said: str
) -> None:
    done = start(*arguments, environment=environment)

    assert done.returncode == exit_code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == "" or exit_code == 0


def test_a_topology_without_an_intake_says_what_it_lacks_before_it_runs(tmp_path: Path, redis_url: str) -> None:
    mine = tmp_path / "small.yaml"
    mine.write_text(
        "name: small\nstreams: {signals: {carries: [LogWritten], key: service, partitions: 1}}\nstages: []\n"
    )

    done = start(
        "run", "--topology", mine, environment={"REDIS_URL": redis_url, "DATABASE_URL": "postgresql://localhost:1/db"}
    )

    assert done.returncode == 78, done.stderr
    assert "topology 'small' has no stream 'intake', to which sources publish" in done.stderr


def test_a_traceback_is_shown_to_those_who_ask_for_it() -> None:
    done = start("topology", "describe", "nosuchfile.yaml", environment={"AIOPS_DEBUG": "1"})

    assert done.returncode == 78
    assert "Traceback" in done.stderr
    assert done.stderr.rstrip().rpartition("\n")[2].startswith("aiops: cannot read the topology")


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["at a terminal", "in the background"])
def _tests_started(request: pytest.FixtureRequest) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, request.param)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_tests_started")
def test_an_interrupted_verb_exits_as_shells_expect(redis_url: str) -> None:
    with started("tap", "intake", environment={"REDIS_URL": redis_url}) as tapping:
        wait_until(lambda: _is_connected(redis_url), saying="the tap is connected")
        tapping.send_signal(signal.SIGINT)
        out, complaints = tapping.communicate(timeout=10)

    assert (tapping.returncode, out, complaints) == (130, "", "")


def _is_connected(redis_url: str) -> bool:
    import redis

    with redis.Redis.from_url(redis_url) as client:
        return any(each["cmd"].startswith("xread") for each in client.client_list())


def test_the_four_names_are_ours_here() -> None:
    assert foreign_packages() == {}
    assert all(owners_of(name) <= {"aiops-core"} for name in PACKAGES)


@pytest.mark.parametrize("rival", ["agents/__init__.py", "tables.py"])
def test_it_refuses_to_start_when_a_name_is_somebody_elses(tmp_path: Path, rival: str) -> None:
    (tmp_path / rival).parent.mkdir(exist_ok=True)
    (tmp_path / rival).write_text("raise SystemExit('somebody else runs')")

    done = start("topology", "check", environment={"PYTHONPATH": str(tmp_path)})

    name = rival.partition("/")[0].removesuffix(".py")
    assert done.returncode == 78
    assert done.stdout == ""
    assert f"`{name}` at {tmp_path / rival.removesuffix('/__init__.py')}, expected it at {HOME / name}" in done.stderr


def test_the_working_directory_does_not_stand_in_for_our_packages(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    for file in ("agents/__init__.py", "tables.py", "orjson.py"):
        (tmp_path / file).write_text("raise SystemExit('the working directory runs')")

    done = start("topology", "check", "--json", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert orjson.loads(done.stdout)["errors"] == 0
