"""The counting topology of the engine's contract in a simulated deployment, and what must have come of its input.

The oracle is plain Python over the input as it lies on the stream: it shares no code with the engine or the tables.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any, cast

import orjson

from agents.ports import ExecuteAction, ExecutionReport
from pipeline.engine.asking import Handlers
from pipeline.engine.record import Record, partition_of
from tests.contracts.counting import AGENTS, line, sample
from tests.simulation.deployment import Member, Run, Source, Story
from topology.errors import BadInputError, RetryableError
from topology.event import Event, Payload
from topology.ids import derived_id
from topology.moments import to_us
from topology.payloads import (
    AnomalyDetected,
    AnswerRecorded,
    EntryCameLate,
    EventDeadLettered,
    LogWritten,
    MetricSampled,
)
from topology.resolve import resolve
from topology.spec import StageSpec, StreamSpec, TopologySpec

_PARTITIONS = 2
_WINDOW_US = 10_000_000
_KEYS = "abcde"
_UNANSWERABLE = "unanswerable"
_RETRIES = 3
_EARLY_US = 4_000_000
_EARLY_ENTRIES = 2
_STAGES = (
    ("count-windows", "CountWindows", "signals", "findings"),
    ("ask-world", "AskWorld", "signals", "findings"),
    ("forward", "Forward", "findings", "numbered"),
)


class CountingStory(Story):
    """Samples and lines of five services, out of order by seconds, some poisoned, some about what nobody can answer."""

    lasts_s = 4.0
    sunk = ("numbered",)

    def __init__(self, seed: int) -> None:
        dice = Random(f"{seed}/story")
        self.on_poison = dice.choice(("park-key", "skip"))
        self.early = not seed % 3
        self.topology = resolve(self._declared(dice), lambda name: AGENTS[name])
        self._published = 0
        self.world = World(Random(f"{seed}/answers"))
        keys = list(_KEYS)
        dice.shuffle(keys)
        count = dice.randrange(10, 45)
        self.batches = [self._batches(dice, keys[:2], 0, count), self._batches(dice, keys[2:], 1000, count)]

    def sources(self, run: Run) -> Sequence[Callable[[Source], Any]]:
        return [partial(self._publish, batches) for batches in self.batches]

    def handlers(self, run: Run, member: Member) -> Handlers:
        return {ExecuteAction: Answering(self.world, run, member)}

    def is_over(self, run: Run) -> bool:
        return self._published == len(self.batches)

    def _declared(self, dice: Random) -> TopologySpec:
        concurrency = dice.choice((1, 2, 64))

        def stage(stage_id: str, agent: str, consumes: str, emits: str) -> StageSpec:
            return StageSpec.model_validate(
                {
                    "id": stage_id,
                    "agent": f"counting:{agent}",
                    "consumes": consumes,
                    "emits": emits,
                    "on_poison": self.on_poison,
                    "concurrency": concurrency,
                    "retry": {"attempts": _RETRIES, "first_pause": "50ms", "longest_pause": "200ms"},
                }
            )

        retain = timedelta(seconds=dice.choice((0, 1, 3600)))
        findings = StreamSpec(carries=("AnomalyDetected",), partitions=_PARTITIONS, retain=retain)
        signals = StreamSpec(carries=("MetricSampled", "LogWritten"), partitions=_PARTITIONS, retain=retain)
        return TopologySpec(
            name="counting",
            streams={"signals": signals, "findings": findings, "numbered": findings},
            stages=tuple(stage(name, self._agent(agent), *rest) for name, agent, *rest in _STAGES),
        )

    def _agent(self, agent: str) -> str:
        return "CountEarly" if self.early and agent == "CountWindows" else agent

    def _batches(self, dice: Random, keys: Sequence[str], first: int, count: int) -> list[list[Event[Payload]]]:
        events: list[Event[Payload]] = []
        poisoned = dice.choice((0.0, 0.0, 0.05))
        for number in range(first, first + count):
            service = dice.choice(keys)
            at_s = 1.5 * (number - first) + dice.random() * dice.choice((1, 12))
            if dice.random() < 0.6:
                metric = "poison" if dice.random() < poisoned else "m"
                events.append(cast("Event[Payload]", sample(number, service, at_s, metric)))
            else:
                level = dice.choice(("info", "info", "warning"))
                asked = cast("Event[Payload]", line(number, service, at_s, level=level))
                if dice.random() < poisoned:
                    told = asked.payload.model_copy(update={"message": f"{_UNANSWERABLE} {number}"})
                    asked = Event(id=asked.id, timestamp=asked.timestamp, source="test", payload=told)
                events.append(asked)
        size = dice.choice((1, 3, 8))
        return [events[start : start + size] for start in range(0, len(events), size)]

    async def _publish(self, batches: Sequence[Sequence[Event[Payload]]], source: Source) -> None:
        """As a reader of a log file: after a restart, and now and then, it says again what it said before."""
        run, done = source.run, source.done
        done["next"] = max(0, done.get("next", 0) - run.dice.randrange(3))
        while done["next"] < len(batches):
            await source.publish_events("signals", batches[done["next"]])
            done["next"] += 1
            if run.dice.random() < 0.2:
                run.weather.happened["published again"] += 1
                await source.publish_events("signals", batches[run.dice.randrange(done["next"])])
            await asyncio.sleep(2 * run.dice.random() * self.lasts_s / len(batches) * 0.8)
        if not done.get("over"):
            done["over"] = 1
            self._published += 1


@dataclass
class World:
    """Answers every question differently each time, late, or after having failed; some it never answers."""

    dice: Random
    asked: Counter[str] = field(default_factory=Counter)
    fails: dict[str, int] = field(default_factory=dict)

    async def answer(self, question: ExecuteAction, run: Run) -> ExecutionReport:
        """The answer to a question."""
        name = question.idempotency_key
        self.asked[name] += 1
        await asyncio.sleep(self.dice.choice((0.0, 0.01, 0.1, 0.6)) * self.dice.random())
        if name.startswith(_UNANSWERABLE):
            if int(name.split()[-1]) % 2:
                msg = "nobody will ever know"
                raise BadInputError(msg)
            msg = "nobody knows"
            raise RetryableError(msg)
        remaining = self.fails.setdefault(name, self.dice.choice((0, 0, 0, 1, _RETRIES - 1)))
        if remaining:
            self.fails[name] -= 1
            run.weather.note("answer failed", name)
            msg = "ask again"
            raise RetryableError(msg)
        return ExecutionReport(status="succeeded", detail=f"{name}, answer {self.asked[name]}")


@dataclass
class Answering:
    """The world as one worker process asks it."""

    world: World
    run: Run
    member: Member
    asked: set[str] = field(default_factory=set)

    async def __call__(self, question: ExecuteAction) -> ExecutionReport:
        self.member.check_alive()
        name, partition = question.idempotency_key, partition_of(question.request.target, _PARTITIONS)
        if name not in self.asked:  # a question it had begun to ask before it knew better is not one it asks again
            self.asked.add(name)
            about = str(derived_id("line", int(name.split()[-1])))
            known = self.run.mesh.knows_answers(self.member.own_name, "ask-world", partition)
            if any(key.startswith(about) for key in known):
                self.run.problems.append(f"{self.member.own_name} asks {name!r} again, whose answer it was given")
        return await self.world.answer(question, self.run)


# --- the oracle -----------------------------------------------------------------------------------------------------

Said = dict[tuple[str, str, str], list[object]]
"""By stream, stage and key: what was said, in order."""


def problems_of(run: Run) -> list[str]:
    """Everything that is wrong with what came of a run; empty when all is as it must be."""
    story = run.story
    assert isinstance(story, CountingStory)
    found = list(run.problems)
    if not run.settled:
        return [*found, f"{run.waiting()} records still wait at the end"]
    found += door_problems(run, story)
    expected, said = _expected(run, story), _said(run)
    for place in sorted({*expected, *said}):
        if expected.get(place, []) != said.get(place, []):
            found.append(f"on {place}: expected {expected.get(place, [])}, found {said.get(place, [])}")
    found += repeated_ids(run)
    found += sunk_problems(run)
    return found


def history(run: Run, stream: str, partitions: int = _PARTITIONS) -> Iterator[tuple[int, Record]]:
    for partition in range(partitions):
        for record in run.mesh.history((stream, partition)):
            yield partition, record


def door_problems(run: Run, story: CountingStory) -> Iterator[str]:
    """What sources published is on the stream once, and per key in the order they said it."""
    taken: dict[str, list[str]] = defaultdict(list)
    given: dict[str, list[str]] = defaultdict(list)
    for _, record in history(run, "signals"):
        taken[record.key].append(str(record.event.id))
    for batches in story.batches:
        for event in (event for batch in batches for event in batch):
            given[str(getattr(event.payload, "service", ""))].append(str(event.id))
    if taken != given:
        yield f"published was {dict(given)}, taken was {dict(taken)}"


def _expected(run: Run, story: CountingStory) -> Said:
    said: Said = defaultdict(list)
    for partition in range(_PARTITIONS):
        records = run.mesh.history(("signals", partition))
        count = _count_early if story.early else _count
        count(records, said, parks=story.on_poison == "park-key")
        answers = run.mesh.recorded.get(("ask-world", partition), {})
        _ask(records, answers, said, parks=story.on_poison == "park-key")
    numbers: Counter[str] = Counter()
    for _, record in history(run, "findings"):  # written by two stages: their order is the mesh's, and it must stay
        numbers[record.key] += 1
        finding = cast("AnomalyDetected", record.event.payload)
        said["numbered", "forward", record.key].append((finding.subject, finding.value, float(numbers[record.key])))
    return said


def _count(records: Sequence[Record], said: Said, *, parks: bool) -> None:
    watermark_us, parked = 0, set()
    counts: Counter[tuple[int, str]] = Counter()
    for record in records:
        payload, at_us = record.event.payload, to_us(record.event.timestamp)
        if not isinstance(payload, MetricSampled):
            continue
        if record.key in parked or payload.metric == "poison":
            said["dead-letters", "count-windows", record.key].append(str(record.event.id))
            parked |= {record.key} if parks else set()
            continue
        start_us = at_us - at_us % _WINDOW_US
        if start_us + _WINDOW_US <= watermark_us:
            said["late", "count-windows", record.key].append(str(record.event.id))
        else:
            counts[start_us, record.key] += 1
        watermark_us = max(watermark_us, at_us)
        for closed_us, key in sorted(window for window in counts if window[0] + _WINDOW_US <= watermark_us):
            said["findings", "count-windows", key].append((str(closed_us), float(counts.pop((closed_us, key)))))


def _count_early(records: Sequence[Record], said: Said, *, parks: bool) -> None:
    """By time and by entries: what is counted so far, each time revised, and at last the final count."""
    watermark_us, said_up_to_us, parked = 0, -1, set()
    counts: dict[tuple[str, int, str], list[int]] = {}  # by table, window and key: entries, those told of, revisions
    for record in records:
        payload, at_us = record.event.payload, to_us(record.event.timestamp)
        if not isinstance(payload, MetricSampled):
            continue
        if record.key in parked or payload.metric == "poison":
            said["dead-letters", "count-windows", record.key].append(str(record.event.id))
            parked |= {record.key} if parks else set()
            continue
        start_us = at_us - at_us % _WINDOW_US
        for table in ("by-time", "by-entries"):
            if start_us + _WINDOW_US <= watermark_us:
                said["late", "count-windows", record.key].append(str(record.event.id))
            else:
                counts.setdefault((table, start_us, record.key), [0, 0, 0])[0] += 1
        watermark_us = max(watermark_us, at_us)
        reached_us = watermark_us - watermark_us % _EARLY_US
        for table in ("by-time", "by-entries"):
            for window in sorted(window for window in counts if window[0] == table):
                _, begun_us, key = window
                entries, told, revision = counts[window]
                due = entries - told >= _EARLY_ENTRIES if table == "by-entries" else reached_us > said_up_to_us
                if begun_us + _WINDOW_US <= watermark_us:
                    del counts[window]
                    what = f"{table} {begun_us} final {revision}"
                elif due and entries > told:
                    counts[window] = [entries, entries, revision + 1]
                    what = f"{table} {begun_us} early {revision}"
                else:
                    continue
                said["findings", "count-windows", key].append((what, float(entries)))
        said_up_to_us = reached_us


def _ask(records: Sequence[Record], answers: dict[str, bytes], said: Said, *, parks: bool) -> None:
    answered: Counter[str] = Counter()
    parked = set()
    for record in records:
        payload, key = record.event.payload, record.key
        if not isinstance(payload, LogWritten):
            continue
        if key in parked or payload.message.startswith(_UNANSWERABLE):
            said["dead-letters", "ask-world", key].append(str(record.event.id))
            parked |= {key} if parks else set()
            continue
        about = str(record.event.id)
        details = [orjson.loads(answer)["detail"] for name, answer in answers.items() if name.startswith(about)]
        answered[key] += 101 if payload.level == "warning" else 1
        said["findings", "ask-world", key].append((details[0] if details else None, float(answered[key])))
        said["answers", "ask-world", about].append(details[0] if details else None)


def _said(run: Run) -> Said:
    said: Said = defaultdict(list)
    for _, record in history(run, "findings"):
        finding = cast("AnomalyDetected", record.event.payload)
        said["findings", record.event.source, record.key].append((finding.subject, finding.value))
    for _, record in history(run, "numbered"):
        finding = cast("AnomalyDetected", record.event.payload)
        said["numbered", record.event.source, record.key].append((finding.subject, finding.value, finding.score))
    for stream in ("dead-letters", "late", "answers"):
        for _, record in history(run, stream, 1):
            payload = record.event.payload
            if isinstance(payload, EventDeadLettered):
                original = orjson.loads(payload.event)["id"]
                said[stream, payload.stage, payload.key].append(original)
            elif isinstance(payload, EntryCameLate):
                said[stream, payload.stage, payload.key].append(str(payload.event))
            elif isinstance(payload, AnswerRecorded):
                said[stream, payload.stage, str(payload.event)].append(payload.answer["detail"])
    return said


def repeated_ids(run: Run) -> Iterator[str]:
    for stream, partitions in (("signals", 2), ("findings", 2), ("numbered", 2), ("dead-letters", 1), ("late", 1)):
        ids = Counter(str(record.event.id) for _, record in history(run, stream, partitions))
        repeated = [event_id for event_id, times in ids.items() if times > 1]
        if repeated:
            yield f"more than once on {stream}: {repeated}"


def sunk_problems(run: Run) -> Iterator[str]:
    """The sink has everything, and met the events of each key in their order."""
    streamed: dict[str, list[str]] = defaultdict(list)
    kept: dict[str, list[str]] = defaultdict(list)
    for _, record in history(run, "numbered"):
        streamed[record.key].append(str(record.event.id))
    for event_id, event in run.kept.items():
        kept[cast("AnomalyDetected", event.payload).service].append(event_id)
    if streamed != kept:
        yield f"on the stream {dict(streamed)}, in the sink {dict(kept)}"
