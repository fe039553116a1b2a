"""Three stages that run as one task, in a simulated deployment; what must have come of the input is computed in plain Python."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import cast

import orjson

from pipeline.engine.record import Record
from tests.contracts.chained import Policy, chain
from tests.simulation.counting_story import CountingStory, Said, door_problems, history, repeated_ids, sunk_problems
from tests.simulation.deployment import Run
from topology.event import Event, Payload
from topology.moments import to_us
from topology.payloads import AnomalyDetected, EntryCameLate, EventDeadLettered, LogWritten, MetricSampled

_WINDOW_US = 10_000_000
_METRICS = ("m", "mm", "mmm")
_POISONED = (*_METRICS, *_METRICS, "poison-split", "poison:before", "poison:after")
_PARTITIONS = 2


class ChainedStory(CountingStory):
    """The signals of the other story; its samples are split, counted and numbered within one task."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        dice = Random(f"{seed}/chained")
        self.topology = chain(stored=False, on_poison=cast("Policy", self.on_poison), partitions=_PARTITIONS)
        metrics = dice.choice((_METRICS, _POISONED))

        def other(event: Event[Payload]) -> Event[Payload]:
            if not isinstance(event.payload, MetricSampled):
                return event
            return replace(event, payload=event.payload.model_copy(update={"metric": dice.choice(metrics)}))

        self.batches = [[list(map(other, batch)) for batch in batches] for batches in self.batches]


def problems_of(run: Run) -> list[str]:
    """Everything that is wrong with what came of a run; empty when all is as it must be."""
    story = run.story
    assert isinstance(story, ChainedStory)
    found = list(run.problems)
    if not run.settled:
        return [*found, f"{run.waiting()} records still wait at the end"]
    found += door_problems(run, story)
    expected: Said = defaultdict(list)
    for partition in range(_PARTITIONS):
        _Expected(expected, parks=story.on_poison == "park-key").follow(run.mesh.history(("signals", partition)))
    said = _said(run)
    for place in sorted({*expected, *said}):
        if expected.get(place, []) != said.get(place, []):
            found.append(f"on {place}: expected {expected.get(place, [])}, found {said.get(place, [])}")
    for stream in ("samples", "counted"):
        found += [f"{record.event} lies on {stream}" for _, record in history(run, stream)]
    return [*found, *repeated_ids(run), *sunk_problems(run)]


@dataclass
class _Expected:
    """One partition of the three stages, one record after the other."""

    said: Said
    parks: bool
    watermark_us: int = 0
    numbers: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    scores: Counter[str] = field(default_factory=Counter)
    counts: Counter[tuple[int, str]] = field(default_factory=Counter)
    parked: set[tuple[str, str]] = field(default_factory=set)

    def follow(self, records: Sequence[Record]) -> None:
        """What the records must lead to."""
        for record in records:
            payload, key = record.event.payload, record.key
            if self._refused("split", key, isinstance(payload, MetricSampled) and payload.metric == "poison-split"):
                continue
            if isinstance(payload, LogWritten):
                self.said["lines", "split", key].append(payload.message)
            elif isinstance(payload, MetricSampled):
                for metric in payload.metric if payload.metric.isalpha() else [payload.metric]:
                    self.numbers[key] += 1
                    self._count(key, metric, to_us(record.event.timestamp))

    def _count(self, key: str, metric: str, at_us: int) -> None:
        if self._refused("sum", key, metric.startswith("poison:")):
            return
        self.seen[key] += 1
        self._number(key, metric, float(self.seen[key]))
        start_us = at_us - at_us % _WINDOW_US
        if start_us + _WINDOW_US <= self.watermark_us:
            self.said["late", "sum", key].append("late")
        else:
            self.counts[start_us, key] += 1
        self.watermark_us = max(self.watermark_us, at_us)
        for window in sorted(each for each in self.counts if each[0] + _WINDOW_US <= self.watermark_us):
            count, of = self.counts.pop(window), window[1]
            if count == 3 and of == "c":
                self.said["dead-letters", "sum", of].append("window")
            else:
                self._number(of, str(window[0]), float(count))

    def _number(self, key: str, subject: str, value: float) -> None:
        self.scores[key] += 1
        self.said["numbered", "forward", key].append((subject, value, float(self.scores[key])))

    def _refused(self, stage: str, key: str, poisoned: bool) -> bool:
        refused = poisoned or (stage, key) in self.parked
        if refused:
            self.said["dead-letters", stage, key].append("event")
            self.parked |= {(stage, key)} if self.parks else set()
        return refused


def _said(run: Run) -> Said:
    said: Said = defaultdict(list)
    for stream in ("lines", "numbered"):
        for _, record in history(run, stream):
            finding = cast("AnomalyDetected", record.event.payload)
            what = finding.subject if stream == "lines" else (finding.subject, finding.value, finding.score)
            said[stream, record.event.source, record.key].append(what)
    for stream in ("dead-letters", "late"):
        for _, record in history(run, stream, 1):
            payload = record.event.payload
            if isinstance(payload, EventDeadLettered):
                assert orjson.loads(payload.event)["payload"]["service"] == payload.key or payload.window
                said[stream, payload.stage, payload.key].append("window" if payload.window else "event")
            elif isinstance(payload, EntryCameLate):
                said[stream, payload.stage, payload.key].append("late")
    return said
