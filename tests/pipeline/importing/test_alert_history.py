"""Alertmanager's history: bodies of the webhook, and what the API lists."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from pipeline.importing.alert_history import AlertHistory
from pipeline.importing.inputs import Inputs, UnreadableInputError
from pipeline.importing.observation import Observation
from tests.pipeline.importing.reading import found
from topology.moments import text_of_us

LABELS = {"alertname": "Down", "service": "web"}
FIRING = {"status": "firing", "labels": LABELS, "startsAt": "2026-03-01T12:00:00Z", "fingerprint": "f"}
RESOLVED = {**FIRING, "status": "resolved", "endsAt": "2026-03-01T12:10:00Z"}
API = {
    "labels": LABELS,
    "annotations": {"summary": "web is down"},
    "startsAt": "2026-03-01T12:00:00.000Z",
    "endsAt": "2026-03-01T12:14:00.000Z",
    "updatedAt": "2026-03-01T12:10:00.000Z",
    "fingerprint": "f",
    "receivers": [{"name": "team"}],
    "status": {"state": "active", "inhibitedBy": [], "silencedBy": []},
}


def body(*alerts: dict[str, Any]) -> dict[str, Any]:
    return {"version": "4", "status": "firing", "groupKey": "g", "alerts": list(alerts)}


def told(observations: list[Observation]) -> list[tuple[str, str]]:
    return [(each.payload.event_type, text_of_us(each.at_us)) for each in observations]


def read(*documents: Any, inputs: Inputs | None = None) -> list[Observation]:
    return found(AlertHistory(), b"\n".join(map(orjson.dumps, documents)), name="alerts.jsonl", inputs=inputs)


def test_bodies_of_the_webhook_one_on_each_line() -> None:
    observations = read(body(FIRING), body(FIRING), body(RESOLVED))
    assert told(observations) == [
        ("alert.fired", "2026-03-01T12:00:00Z"),
        ("alert.fired", "2026-03-01T12:00:00Z"),
        ("alert.resolved", "2026-03-01T12:10:00Z"),
    ]
    assert observations[0].id == observations[1].id
    assert observations[0].metadata == {"alert_group": "g"}, "nobody knows any more when it was observed"


def test_alerts_as_the_api_lists_them_also_over_many_lines() -> None:
    content = orjson.dumps([API, {**API, "endsAt": "2026-03-01T12:05:00Z"}], option=orjson.OPT_INDENT_2)
    observations = found(AlertHistory(), content)
    assert told(observations) == [
        ("alert.fired", "2026-03-01T12:00:00Z"),
        ("alert.fired", "2026-03-01T12:00:00Z"),
        ("alert.resolved", "2026-03-01T12:05:00Z"),
    ]
    assert observations[0].id == read(body(FIRING))[0].id, "the webhook and the API say the same"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (5, "found an object" and "found 5, expected a body of the webhook"),
        ({"status": "success"}, "found an object, expected a body of the webhook"),
        ([API, "x"], "[1]: found 'x', expected a body"),
        ([{**API, "labels": {}}], "[0].alerts[0].labels.alertname: found nothing"),
        ([{**API, "updatedAt": "noon"}], "[0].updatedAt: found 'noon'"),
        ({**body(FIRING), "version": "3"}, "version: found '3', expected '4'"),
        (body({**FIRING, "startsAt": "2026-03-01"}), "alerts[0].startsAt: "),
        (body({**RESOLVED, "endsAt": "0001-01-01T00:00:00Z"}), "alerts[0].endsAt: found nothing, expected when it was"),
        (body({**FIRING, "startsAt": "1950-01-01T00:00:00Z"}), "expected one in the years 1970 to 9999"),
    ],
)
def test_what_is_no_alert_is_refused_with_its_place_or_counted(document: Any, said: str) -> None:
    with pytest.raises(UnreadableInputError) as refused:
        read(body(FIRING), document)
    assert f"line 2: {said}" in str(refused.value) or (said in str(refused.value) and "line 2" in str(refused.value))
    inputs = Inputs(skip_bad=True)
    read(body(FIRING), document, body(RESOLVED), inputs=inputs)
    assert inputs.bad == 1


def test_what_nests_beyond_all_bounds_is_refused() -> None:
    deep = '{"alerts":' + "[" * 900 + "]" * 900 + "}"
    with pytest.raises(UnreadableInputError, match="nested hundreds of levels deep"):
        found(AlertHistory(), deep)


@pytest.mark.parametrize("content", ["", "[", '[{"a":1},\n{]', "{}\n{\n"])
def test_what_is_no_json_is_refused(content: str) -> None:
    with pytest.raises(UnreadableInputError, match=r"shop\.csv"):
        found(AlertHistory(), content)
