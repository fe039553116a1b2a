"""``aiops incidents``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.commands.calling import call, call_json, start
from tests.pipeline.commands.stories import store
from tests.pipeline.knowledge.telling import incident_events, incident_id, whole_story


def test_without_any_knowledge_there_is_nothing_to_list_and_no_server_is_started(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOPS_STATE_DIR", str(state_dir))

    assert call("incidents", "list").stdout == "no incidents so far\n"
    assert call_json("incidents", "list", "--json") == []
    assert call("incidents", "show", "abc").exit_code == 1
    assert not list(state_dir.iterdir())


def test_incidents_are_listed_newest_first_and_by_status(stored_url: str) -> None:
    store(stored_url, [*whole_story(1), *incident_events(2, start=100)[:1]])

    newest, oldest = call("incidents", "list").stdout.splitlines()
    assert newest.startswith(str(incident_id(2))[:8])
    assert "open" in newest
    assert oldest.endswith("shop: ledger does not answer (1) · 1 tried · restart")
    [resolved] = call_json("incidents", "list", "--status", "resolved", "--json")
    assert (resolved["incident"], resolved["solution"]) == (str(incident_id(1)), "restart")
    assert len(call("incidents", "list", "--limit", "1").stdout.splitlines()) == 1


def test_the_story_of_an_incident_is_told_in_order_of_time(stored_url: str) -> None:
    store(stored_url, whole_story(1))

    result = call("incidents", "show", str(incident_id(1))[:8])

    assert result.exit_code == 0, result.output
    headline, _, why, *told = result.stdout.splitlines()
    assert headline == "shop: ledger does not answer (1) · critical · resolved after 9.0 s"
    assert why == "one story because: one service"
    assert [line.split()[1] for line in told] == [
        "seen", "concluded", "planned", "approved", "started", "succeeded", "verified", "cleared", "resolved", "learned"
    ]  # fmt: skip
    assert "restart ledger (attempt 1, approve)" in told[2]
    assert told[3].endswith("by somebody")


def test_a_program_gets_everything_that_was_said(stored_url: str) -> None:
    store(stored_url, whole_story(1))

    story = call_json("incidents", "show", str(incident_id(1)).upper(), "--json")

    assert story["incident"]["status"] == "resolved"
    assert [moment["event_type"] for moment in story["moments"]] == [
        "problem.diagnosed", "plan.proposed", "approval.given", "action.started", "action.finished", "outcome.verified",
        "experience.recorded",
    ]  # fmt: skip
    assert story["moments"][1]["payload"]["request"]["operation"] == "restart"


@pytest.mark.parametrize("beginning", ["zzz", "%", "not-an-id"])
def test_an_id_that_nothing_has_is_said_to_be_unknown(stored_url: str, beginning: str) -> None:
    store(stored_url, whole_story(1))

    result = call("incidents", "show", beginning)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "found no incident whose id begins with" in result.stderr


def test_an_ambiguous_id_is_refused_with_the_choices(stored_url: str) -> None:
    store(stored_url, [*whole_story(1), *whole_story(2, start=100)])

    result = call("incidents", "show", "")

    assert result.exit_code == 1
    assert str(incident_id(1)) in result.stderr
    assert str(incident_id(2)) in result.stderr


def test_a_database_that_is_away_is_one_clear_paragraph(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://nobody@/none?host={tmp_path}")

    done = start("incidents", "list", "--json")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("aiops: could not list incidents: Postgres:")
    assert "Traceback" not in done.stderr
