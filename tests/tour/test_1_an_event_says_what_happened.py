"""Chapter 1. Everything that flows is an event: an envelope, the same for all, around a payload, one class per type."""

from __future__ import annotations

import pytest

from tests.tour.small_world import NOON, said
from topology.codec import decode, encode
from topology.errors import InvalidEventError
from topology.ids import derived_id
from topology.payloads import MetricSampled


def test_an_event_says_what_happened_when_and_who_says_so() -> None:
    event = said("payment refused", service="shop")

    assert event.event_type == "log.written"
    assert event.timestamp == NOON, "when it happened, not when we heard of it"
    assert event.source == "tour"
    assert event.payload.message == "payment refused"


def test_it_travels_as_json_and_comes_back_the_same() -> None:
    event = said("payment refused")

    assert decode(encode(event)) == event
    assert b'"event_type":"log.written"' in encode(event)


def test_what_does_not_fit_its_class_is_refused_by_field() -> None:
    broken = encode(said("payment refused")).replace(b'"level":"info"', b'"level":"loud"')

    with pytest.raises(InvalidEventError, match=r"payload: level: .* \(found 'loud'\)"):
        decode(broken)
    with pytest.raises(ValueError, match="finite number"):
        MetricSampled(service="shop", metric="load", value=float("nan"))


def test_an_id_is_derived_from_what_it_identifies_so_hearing_twice_is_hearing_once() -> None:
    assert said("payment refused").id == said("payment refused").id
    assert said("payment refused").id != said("payment refused", seconds=1).id
    assert derived_id("ab", "c") != derived_id("a", "bc"), "parts cannot run into each other"
