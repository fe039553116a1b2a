"""Foreign payloads become events, or are refused with the item and the field that is wrong."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.formats import FORMATS, Reception
from pipeline.sources.formats.body import ITEMS_MAX, MalformedBodyError, TooManyItemsError, moment, parse_json
from pipeline.sources.formats.cloudevents import read_binary, write
from pipeline.sources.formats.mapping import JsonMapping
from pipeline.sources.identity import new_id
from topology.errors import BadInputError, UnknownEventTypeError
from topology.event import Event, Payload
from topology.payloads import AlertFired, AlertResolved, ChangeApplied, LogWritten

RECEIVED = Reception(at=datetime(2026, 3, 1, 12, 0, tzinfo=UTC))


def read(name: str, body: Any) -> list[Event[Payload]]:
    return FORMATS[name](body if isinstance(body, bytes) else orjson.dumps(body), RECEIVED)


def refusal(name: str, body: Any) -> BadInputError:
    with pytest.raises(BadInputError) as refused:
        read(name, body)
    return refused.value


def alert(**changes: Any) -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": {"alertname": "HighLatency", "service": "checkout", "severity": "critical"},
        "annotations": {"summary": "p99 is 3 s", "description": "for five minutes"},
        "startsAt": "2026-03-01T10:00:00.123456789+01:00",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example/graph",
        "fingerprint": "c0ffee",
    } | changes


def webhook(*alerts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "aiops",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example",
        "alerts": list(alerts),
    } | changes


def cloud_event(**changes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "42",
        "source": "/deployer",
        "type": "com.aiops.change.applied",
        "time": "2026-03-01T11:59:00Z",
        "data": {"service": "ledger", "change": "v7", "kind": "configuration", "version": 7, "reversible": True},
    } | changes


def own(**changes: Any) -> dict[str, Any]:
    return {
        "id": "0190a3b4-0000-7000-8000-000000000001",
        "timestamp": "2026-03-01T11:00:00Z",
        "event_type": "log.written",
        "source": "script",
        "payload": {"service": "api", "message": "hello", "level": "error"},
    } | changes


class TestAlertmanager:
    def test_a_firing_alert_keeps_what_identifies_and_describes_it(self) -> None:
        [event] = read("alertmanager", webhook(alert()))

        assert event.timestamp == datetime(2026, 3, 1, 9, 0, 0, 123456, tzinfo=UTC)
        assert event.payload == AlertFired(
            service="checkout",
            labels={"alertname": "HighLatency", "service": "checkout", "severity": "critical"},
            alert="HighLatency",
            fingerprint="c0ffee",
            severity="critical",
            summary="p99 is 3 s",
            description="for five minutes",
            annotations={"summary": "p99 is 3 s", "description": "for five minutes"},
            link="http://prometheus.example/graph",
        )

    def test_a_repetition_is_the_same_event_and_a_new_start_another(self) -> None:
        [first] = read("alertmanager", webhook(alert()))
        [repeated] = read("alertmanager", webhook(alert(), receiver="another"))
        [again] = read("alertmanager", webhook(alert(startsAt="2026-03-01T11:00:00Z")))

        assert first.id == repeated.id != again.id

    def test_a_resolved_alert_happened_when_it_ended(self) -> None:
        [event] = read("alertmanager", webhook(alert(status="resolved", endsAt="2026-03-01T11:30:00Z")))

        assert isinstance(event.payload, AlertResolved)
        assert event.payload.fingerprint == "c0ffee"
        assert event.timestamp == datetime(2026, 3, 1, 11, 30, tzinfo=UTC)

    def test_without_fingerprint_and_status_the_labels_and_the_group_stand_in(self) -> None:
        bare = {key: alert()[key] for key in ("labels", "annotations", "startsAt", "endsAt")}
        shuffled = bare | {"labels": dict(reversed(bare["labels"].items()))}

        [event], [same] = read("alertmanager", webhook(bare)), read("alertmanager", webhook(shuffled))

        assert isinstance(event.payload, AlertFired)
        assert event.payload.fingerprint
        assert event.id == same.id

    @pytest.mark.parametrize(
        ("labels", "service"),
        [
            ({"service": "a", "job": "b"}, "a"),
            ({"job": "b", "app": "c"}, "b"),
            ({"app": "c", "instance": "d:9090"}, "c"),
            ({"instance": "d:9090"}, "d:9090"),
            ({}, "HighLatency"),
        ],
    )
    def test_the_service_is_named_by_the_first_label_that_can(self, labels: dict[str, str], service: str) -> None:
        [event] = read("alertmanager", webhook(alert(labels={"alertname": "HighLatency", **labels})))

        assert isinstance(event.payload, AlertFired)
        assert event.payload.service == service

    def test_unknown_fields_of_newer_senders_are_ignored(self) -> None:
        assert read("alertmanager", webhook(alert(routeLabels={"a": "b"}), notification_reason="new"))

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ([], ""),
            (webhook(version="3"), "version"),
            ({"alerts": []}, "version"),
            (webhook(alerts={}), "alerts"),
            (webhook(alert(), alert(startsAt=5)), "alerts[1].startsAt"),
            (webhook(alert(startsAt="2026-03-01T10:00:00")), "alerts[0].startsAt"),
            (webhook(alert(startsAt="0001-01-01T00:00:00+14:00")), "alerts[0].startsAt"),
            (webhook(alert(status="broken")), "alerts[0].status"),
            (webhook(alert(labels={"alertname": 7})), "alerts[0].labels.alertname"),
            (webhook(alert(labels={})), "alerts[0].labels.alertname"),
            (webhook(alert(labels=None)), "alerts[0].labels"),
            (webhook(alert(annotations=[])), "alerts[0].annotations"),
            (webhook(alerts=["alert"]), "alerts[0]"),
        ],
    )
    def test_a_wrong_body_is_refused_by_field(self, body: Any, field: str) -> None:
        assert refusal("alertmanager", body).field == field


class TestCloudEvents:
    def test_a_change_comes_in_with_what_we_have_no_field_for_as_labels(self) -> None:
        [event] = read("cloudevents", cloud_event())

        assert event.payload == ChangeApplied(
            service="ledger", change="v7", kind="configuration", reversible=True, labels={"version": "7"}
        )
        assert event.source == "/deployer"
        assert event.timestamp == datetime(2026, 3, 1, 11, 59, tzinfo=UTC)

    def test_source_and_id_identify_it(self) -> None:
        [first] = read("cloudevents", cloud_event())
        [same] = read("cloudevents", cloud_event(time="2026-03-01T11:59:30Z"))
        [other] = read("cloudevents", cloud_event(source="/other"))

        assert first.id == same.id != other.id

    def test_the_subject_names_the_service_when_the_data_does_not(self) -> None:
        [event] = read("cloudevents", cloud_event(type="log.written", subject="api", data={"message": "hello"}))

        assert event.payload == LogWritten(service="api", message="hello")

    def test_a_batch_is_read_in_order(self) -> None:
        events = read("cloudevents", [cloud_event(id="1"), cloud_event(id="2")])

        assert len({event.id for event in events}) == 2

    def test_binary_mode_carries_the_attributes_in_headers(self) -> None:
        headers = {
            "content-type": "application/json",
            "ce-specversion": "1.0",
            "ce-id": "42",
            "ce-source": "/deployer",
            "ce-type": "change.applied",
            "ce-subject": "caf%C3%A9",
        }

        [event] = read_binary(headers, b'{"change": "v7"}', RECEIVED)

        assert event.payload == ChangeApplied(service="café", change="v7")
        assert event.timestamp == RECEIVED.at
        assert event.id == read("cloudevents", cloud_event())[0].id

    def test_what_goes_out_comes_in_with_the_same_payload_and_time(self) -> None:
        [event] = read("alertmanager", webhook(alert()))

        [back] = read("cloudevents", write(event))

        assert (back.payload, back.timestamp, back.source) == (event.payload, event.timestamp, event.source)

    def test_an_unknown_type_is_refused_with_the_known_ones(self) -> None:
        error = refusal("cloudevents", cloud_event(type="org.example.thing"))

        assert isinstance(error, UnknownEventTypeError)
        assert error.field == "type"
        assert "change.applied" in str(error)

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            (cloud_event(specversion="0.3"), "specversion"),
            (cloud_event(id=""), "id"),
            (cloud_event(source=None), "source"),
            (cloud_event(time="yesterday"), "time"),
            (cloud_event(data="text"), "data"),
            (cloud_event(data={"service": "a"}), "payload"),
            (cloud_event(data={"service": "a", "change": "b", "extra": {"deep": 1}}), "payload"),
            (cloud_event(data={"service": "a", "change": "b", "extra": 1, "labels": 3}), "data.labels"),
            (cloud_event(datacontenttype="text/xml"), "datacontenttype"),
            (cloud_event(data_base64="?"), "data_base64"),
            (cloud_event(schemaversion=99), "metadata.schema_version"),
            (cloud_event(schemaversion="x"), "schemaversion"),
            ([cloud_event(), cloud_event(id=5)], "[1].id"),
            ("text", ""),
        ],
    )
    def test_a_wrong_one_is_refused_by_attribute(self, body: Any, field: str) -> None:
        assert refusal("cloudevents", body).field == field


class TestOwnEnvelope:
    def test_an_event_comes_in_as_it_is(self) -> None:
        [event] = read("events", own())

        assert event.id == UUID("0190a3b4-0000-7000-8000-000000000001")
        assert event.payload == LogWritten(service="api", message="hello", level="error")
        assert event.metadata == {"observed_at": RECEIVED.at.isoformat()}

    def test_id_and_time_may_be_left_out(self) -> None:
        body = own()
        del body["id"], body["timestamp"]

        [event] = read("events", body)

        assert event.id.version == 7
        assert event.timestamp == RECEIVED.at

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            (None, ""),
            (own(event_type="no.such"), "event_type"),
            (own(event_type="approval.given"), "event_type"),
            (own(event_type=["x"]), "event_type"),
            (own(payload={"service": "a"}), "payload"),
            (own(event_type="metric.sampled", payload={"service": "a", "metric": "m", "value": "inf"}), "payload"),
            (own(id="seven"), "id"),
            (own(id=7), "id"),
            (own(timestamp=1700000000), "timestamp"),
            (own(timestamp="9999-12-31T23:59:59-14:00"), "timestamp"),
            (own(metadata=[]), "metadata"),
            (own(metadata={"schema_version": 2}), "metadata.schema_version"),
            ([own(), own(source=None)], "[1].source"),
        ],
    )
    def test_a_wrong_one_is_refused_by_field(self, body: Any, field: str) -> None:
        assert refusal("events", body).field == field


class TestMapping:
    uptime = JsonMapping(
        name="uptime",
        event_type="alert.fired",
        items="checks",
        fields={"service": "target.name", "alert": "=site down", "fingerprint": "id", "summary": "lines.0"},
        labels={"region": "target.region"},
        timestamp="at",
        identity=("id", "at"),
    )
    check: ClassVar[dict[str, Any]] = {
        "id": "c1",
        "at": "2026-03-01T11:00:00Z",
        "target": {"name": "shop", "region": 3},
        "lines": ["down"],
    }

    def test_paths_lead_to_the_fields(self) -> None:
        [event] = self.uptime.read(orjson.dumps({"checks": [self.check]}), RECEIVED)

        assert event.payload == AlertFired(
            service="shop", alert="site down", fingerprint="c1", summary="down", labels={"region": "3"}
        )
        assert event.source == "door:uptime"

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "checks"),
            ({"checks": [{**check, "at": None}]}, "checks[0].at"),
            ({"checks": [{**check, "target": 5}]}, "checks[0].payload"),
            ({"checks": [check, 5]}, "checks[1]"),
        ],
    )
    def test_a_body_that_does_not_fit_is_refused_by_field(self, body: Any, field: str) -> None:
        with pytest.raises(BadInputError) as refused:
            self.uptime.read(orjson.dumps(body), RECEIVED)

        assert refused.value.field == field

    def test_a_mapping_to_an_unknown_field_or_type_is_refused_when_declared(self) -> None:
        with pytest.raises(ValueError, match="has \\['colour'\\]"):
            JsonMapping(name="x", event_type="alert.fired", fields={"colour": "a"})
        with pytest.raises(ValueError, match=r"expected one of alert\.fired"):
            JsonMapping(name="x", event_type="plan.proposed", fields={"plan": "a"})


class TestLimits:
    @pytest.mark.parametrize(
        "raw",
        [b"", b"{", b"NaN", b"1e999", b'"\\ud800"', b"\xff", b"[" * 33 + b"]" * 33, b"[" * 5000 + b"]" * 5000],
    )
    def test_what_is_no_decent_json_is_refused(self, raw: bytes) -> None:
        with pytest.raises(MalformedBodyError):
            parse_json(raw)

    @pytest.mark.parametrize("name", sorted(FORMATS))
    def test_too_many_items_are_refused_as_such(self, name: str) -> None:
        too_many: list[dict[str, Any]] = [{}] * (ITEMS_MAX + 1)

        with pytest.raises(TooManyItemsError):
            read(name, webhook(*too_many) if name == "alertmanager" else too_many)

    def test_times_are_read_to_the_microsecond(self) -> None:
        assert moment("2026-03-01T10:00:00.123456789Z", field="t").microsecond == 123456

    @given(
        st.sampled_from(sorted(FORMATS)),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.text()
                    | st.sampled_from(
                        [
                            "alerts",
                            "labels",
                            "version",
                            "status",
                            "id",
                            "type",
                            "data",
                            "payload",
                            "event_type",
                            "timestamp",
                        ]
                    ),
                    inner,
                )
            ),
        ),
    )
    def test_anything_else_is_refused_as_bad_input_or_holds_no_event(self, name: str, body: Any) -> None:
        events = []
        with contextlib.suppress(BadInputError):
            events = read(name, json.dumps(body).encode())

        assert not events


def test_new_ids_are_version_7_and_sort_by_time() -> None:
    ids = [new_id() for _ in range(100)]

    assert len(set(ids)) == 100
    assert {(each.version, each.variant) for each in ids} == {(7, "specified in RFC 4122")}
    assert [each.int >> 80 for each in ids] == sorted(each.int >> 80 for each in ids)
