"""What must be on the streams, computed from the input log alone, and how it differs from what is there.

Each hop is judged by what its input stream holds: the windows by the signals, the answers by the lines, the numbers by
the findings.  So one loss is counted once, where it happened.  Written without any of the engine's or the tables' code.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tests.chaos.loop_under_test import LATENESS
from topology.event import Event
from topology.ids import derived_id
from topology.moments import from_us, span_us
from topology.payloads import LogWritten, MetricSampled

_WINDOW_US = 10_000_000

Log = Mapping[str, Sequence[Sequence[Event[Any]]]]
"""By stream, by partition, the events in order of offset."""


@dataclass
class Judgement:
    """How what is there differs from what must be."""

    lost: int = 0
    double: int = 0
    order_violations: int = 0
    evidence: list[str] = field(default_factory=list)

    def compare(self, what: str, expected: Sequence[UUID], found: Sequence[UUID]) -> None:
        """The same ids, each once, in the same order."""
        there, wanted = Counter(found), Counter(expected)
        missing, extra = wanted - there, there - wanted
        self.lost += missing.total()
        self.double += extra.total()
        if missing or extra:
            self.evidence.append(
                f"{what}: of {len(expected)} are missing {missing.total()}, too many {extra.total()}, "
                f"the first {next(iter(missing or extra))}"
            )
        elif list(found) != list(expected):
            wrong = sum(one != other for one, other in zip(expected, found, strict=True))
            self.order_violations += wrong
            self.evidence.append(f"{what}: {wrong} of {len(expected)} are out of order")

    def compare_value(self, what: str, expected: float, found: float | None) -> None:
        """The same value; less means that something was not counted, more that something was counted twice."""
        if found == expected:
            return
        short = expected - (found or 0)
        if short > 0:
            self.lost += round(short)
        else:
            self.double += round(-short)
        self.evidence.append(f"{what}: {found}, expected {expected}")


def judge(log: Log) -> Judgement:
    """Judge every hop."""
    judgement = Judgement()
    for partition in range(len(log["signals"])):
        _judge_windows(judgement, log, partition)
        _judge_answers(judgement, log, partition)
        _judge_numbers(judgement, log, partition)
        told = by_key(log["numbered"][partition], "system")
        incidents = by_key(log["incidents"][partition], "system")
        for system in told.keys() | incidents.keys():
            expected = [derived_id(event.id, "tell", 0) for event in told[system]]
            judgement.compare(f"incidents of {system}", expected, [event.id for event in incidents[system]])
    _judge_late(judgement, log)
    for letter in log["dead-letters"][0]:
        judgement.lost += 1
        judgement.evidence.append(f"a dead letter of {letter.payload.stage}: {letter.payload.reason}")
    return judgement


def by_key(events: Sequence[Event[Any]], key: str) -> dict[str, list[Event[Any]]]:
    """The events of each key, in order."""
    found: dict[str, list[Event[Any]]] = defaultdict(list)
    for event in events:
        found[getattr(event.payload, key)].append(event)
    return found


def windows_of(signals: Sequence[Event[Any]]) -> tuple[dict[tuple[int, str], int], list[Event[Any]]]:
    """What a partition's samples come to: closed windows, (start, service) -> count, in order; and the late ones."""
    still_open: Counter[tuple[int, str]] = Counter()
    closed: dict[tuple[int, str], int] = {}
    late = []
    watermark_us = 0
    for event in signals:
        if not isinstance(event.payload, MetricSampled):
            continue
        start_us = event.at_us // _WINDOW_US * _WINDOW_US
        if start_us + _WINDOW_US <= watermark_us:
            late.append(event)
        else:
            still_open[start_us, event.payload.service] += 1
        watermark_us = max(watermark_us, event.at_us - span_us(LATENESS))
        for window in sorted(still_open):
            if window[0] + _WINDOW_US > watermark_us:
                break
            closed[window] = still_open.pop(window)
    return closed, late


def _judge_windows(judgement: Judgement, log: Log, partition: int) -> None:
    closed, _ = windows_of(log["signals"][partition])
    counted = [event for event in log["findings"][partition] if event.payload.kind == "count"]
    ids = {
        derived_id("count-windows", "samples", service, start, start + _WINDOW_US, 0): (start, service)
        for start, service in closed
    }
    judgement.compare(f"windows of partition {partition}", list(ids), [event.id for event in counted])
    for event in counted:
        window = ids.get(event.id)
        if window is not None:
            what = f"the window of {window[1]} from {from_us(window[0])}"
            judgement.compare_value(what, closed[window], event.payload.value)


def _judge_answers(judgement: Judgement, log: Log, partition: int) -> None:
    lines = [event for event in log["signals"][partition] if isinstance(event.payload, LogWritten)]
    answers = [event for event in log["findings"][partition] if event.payload.kind == "answer"]
    asked, answered = by_key(lines, "service"), by_key(answers, "service")
    for service in asked.keys() | answered.keys():
        expected: dict[UUID, float] = {}
        count = 0
        for line in asked[service]:
            count += 101 if line.payload.level == "warning" else 1  # see AskWorld: what it writes before it asks
            expected[derived_id(line.id, "ask-world", 0)] = count
        judgement.compare(f"answers of {service}", list(expected), [event.id for event in answered[service]])
        for event in answered[service]:
            judgement.compare_value(
                f"answers counted by {event.id}", expected.get(event.id, event.payload.value), event.payload.value
            )


def _judge_numbers(judgement: Judgement, log: Log, partition: int) -> None:
    found = by_key(log["findings"][partition], "service")
    numbered = by_key(log["numbered"][partition], "service")
    for service in found.keys() | numbered.keys():
        expected = [derived_id(event.id, "forward", 0) for event in found[service]]
        judgement.compare(f"numbers of {service}", expected, [event.id for event in numbered[service]])
        numbers = [event.payload.score for event in numbered[service]]
        if numbers != [float(number) for number in range(1, len(numbers) + 1)]:
            judgement.order_violations += 1
            judgement.evidence.append(f"numbers of {service} do not count up by one: {numbers[:50]}")


def _judge_late(judgement: Judgement, log: Log) -> None:
    late = [event for signals in log["signals"] for event in windows_of(signals)[1]]
    expected = sorted(derived_id(event.id, "count-windows", "late", "samples", 0) for event in late)
    judgement.compare("the late output", expected, sorted(event.id for event in log["late"][0]))
    lines = [e for signals in log["signals"] for e in signals if isinstance(e.payload, LogWritten)]
    judgement.compare(
        "recorded answers", sorted(line.id for line in lines), sorted(e.payload.event for e in log["answers"][0])
    )
