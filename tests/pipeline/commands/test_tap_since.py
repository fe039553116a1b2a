"""``aiops tap --since``: out of the archive, out of the mesh, and then what comes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.archive.folder import Archive
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.loading import load_topology
from pipeline.settings import settings
from tests.pipeline.archive.archiving import janitor_of, outputs
from tests.pipeline.commands.calling import call, started
from topology.codec import decode
from topology.ids import derived_id

TOPOLOGY = """
name: archiving
streams:
  signals: {carries: [MetricSampled], partitions: 2, archive: true}
stages: []
"""

pytestmark = pytest.mark.servers


@pytest.fixture
def file(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("AIOPS_ARCHIVE_DIR", str(tmp_path / "archive"))
    path = tmp_path / "archiving.yaml"
    path.write_text(TOPOLOGY)
    return path


def put(file: Path, first: int, last: int, *, swept: bool = False) -> None:
    """Put so many events on the stream, and perhaps make it forget them."""

    async def publish() -> None:
        graph = load_topology(file)
        mesh = RedisMesh.connect(settings().redis_url.get_secret_value(), settings().namespace)  # type: ignore[union-attr]
        await mesh.publish(outputs(graph.streams["signals"], range(first, last)))
        if swept:
            assert await janitor_of(mesh, Archive(settings().archive_folder), graph).sweep() == last - first
        await mesh.close()

    asyncio.run(publish())


def numbers(lines: list[str]) -> list[int]:
    known = {derived_id("sample", number): number for number in range(100)}
    return sorted(known[decode(line).id] for line in lines)


def test_what_was_archived_what_is_there_and_what_comes_is_shown_once(file: Path) -> None:
    put(file, 0, 20, swept=True)
    put(file, 20, 30)
    arguments = ["tap", "signals", "--since", "1h", "--topology", str(file), "--json", "--count", "40"]
    with started(*arguments) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(30)]
        put(file, 30, 40)
        lines += process.stdout.readlines()
        process.wait(10)
    assert process.returncode == 0
    assert numbers(lines) == list(range(40))


@pytest.mark.parametrize("ago", [timedelta(hours=1), timedelta(days=4000)])
def test_a_time_may_be_given_in_any_zone(file: Path, ago: timedelta) -> None:
    put(file, 0, 5, swept=True)
    for moment in (datetime.now(UTC) - ago, datetime.now() - ago):  # noqa: DTZ005 - as a person writes it
        result = call("tap", "signals", "--since", moment.isoformat(), "--topology", file, "--json", "--count", "5")
        assert result.exit_code == 0, result.output
        assert numbers(result.stdout.splitlines()) == list(range(5))


def test_a_damaged_archive_is_named_and_what_is_left_can_be_had(file: Path) -> None:
    put(file, 0, 20, swept=True)
    archive = Archive(settings().archive_folder)
    span = archive.spans(("signals", 1))[0]
    lost, damaged = archive.header(("signals", 1), span).count, archive.path_of(("signals", 1), span)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    arguments = ["tap", "signals", "--since", "1h", "--topology", str(file), "--json", "--count"]
    result = call(*arguments, "20")
    assert result.exit_code == 1
    assert str(damaged) in result.stderr
    result = call(*arguments, str(20 - lost), "--salvage")
    assert result.exit_code == 0
    assert len(numbers(result.stdout.splitlines())) == 20 - lost


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--since", "yesterday"], "expected a time such as 2026-03-01T12:00"),
        (["--since", "1h", "--from-start"], "expected one of them"),
        (["--salvage"], "expected both"),
    ],
)
def test_what_makes_no_sense_is_refused(file: Path, options: list[str], said: str) -> None:
    result = call("tap", "signals", "--topology", file, *options)
    assert result.exit_code == 2
    assert said in result.stderr
