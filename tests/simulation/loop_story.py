"""The topology that ships, in a simulated deployment, with the make-believe patient of the agents' tests.

What a stage says that asks nobody must be what the same stage says to the same input in peace; what several stages bring
about together must be an incident that is noticed, repaired once, verified, and over.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from inspect import isasyncgenfunction
from random import Random
from typing import Any

from agents.ports import ExecuteAction, ExecutionReport, RecallProblem, Recollection
from pipeline.engine.asking import Handlers
from pipeline.engine.inputs import inputs_of
from pipeline.engine.outputs import OPERATION_STREAMS
from pipeline.engine.record import BEGINNING, Place, Record, Restored
from pipeline.engine.rows import Remembered
from pipeline.engine.task import PartitionTask
from pipeline.loading import load_agent, read_topology
from tests.agents.sickbed import FAULTS, Experience, Patient
from tests.simulation.deployment import Member, Run, Source, Story
from topology.errors import RetryableError
from topology.event import Event, Payload
from topology.graph import Stage, Topology
from topology.ids import derived_id
from topology.moments import from_us
from topology.payloads import ActionFinished, ActionStarted, IncidentOpened, IncidentResolved, OutcomeVerified
from topology.resolve import resolve

_ILL_AFTER_S = 3.0
_PROBE_S = 0.5
_PROBES_MAX = 160


class LoopStory(Story):
    """A patient that falls ill while the deployment that should heal it has trouble of its own."""

    lasts_s = 10.0
    sunk = ("incidents", "outcomes", "lessons")

    def __init__(self, seed: int) -> None:
        dice = Random(f"{seed}/story")
        self.topology = _shipped(dice.choice((1, 2)))
        self.fault = dice.choice(FAULTS)
        self.patient = Patient()
        self.experience = Experience()
        self.said: list[list[Event[Payload]]] = []
        self._dice = Random(f"{seed}/answers")
        self._failed: Counter[str] = Counter()
        self._is_over = False

    def sources(self, run: Run) -> Sequence[Callable[[Source], Any]]:
        return [self._probe]

    def handlers(self, run: Run, member: Member) -> Handlers:
        async def execute(question: ExecuteAction) -> ExecutionReport:
            await self._be_slow(run, member, f"execute {question.idempotency_key}")
            return self.patient.execute(question)

        async def recall(question: RecallProblem) -> Recollection:
            await self._be_slow(run, member, f"recall {question.problem}")
            return self.experience.recall(question)

        return {ExecuteAction: execute, RecallProblem: recall}

    def is_over(self, run: Run) -> bool:
        if not self._is_over and not self.patient.fault and len(self.said) * _PROBE_S > _ILL_AFTER_S:
            started = {p.action for p in _payloads(run, "actions", ActionStarted) if p.undo_of is None}
            judged = {p.action for p in _payloads(run, "outcomes", OutcomeVerified)}
            opened = {p.incident for p in _payloads(run, "incidents", IncidentOpened)}
            resolved = {p.incident for p in _payloads(run, "incidents", IncidentResolved)}
            self._is_over = bool(started) and started <= judged and opened == resolved
        return self._is_over or len(self.said) >= _PROBES_MAX

    async def _be_slow(self, run: Run, member: Member, what: str) -> None:
        member.check_alive()
        await asyncio.sleep(self._dice.choice((0.0, 0.02, 0.8)) * self._dice.random())
        if not run.weather.is_calm and self._failed[what] < 2 and self._dice.random() < 0.2:
            self._failed[what] += 1
            run.weather.note("answer failed", what)
            msg = "ask again"
            raise RetryableError(msg)

    async def _probe(self, source: Source) -> None:
        """As the probes and readers of a host; after a restart it says again what it said last."""
        run, done = source.run, source.done
        done["next"] = max(0, done.get("next", 0) - run.dice.randrange(3))
        while True:
            while done["next"] < len(self.said):
                await source.publish_events("intake", self.said[done["next"]])
                done["next"] += 1
            if self.is_over(run):
                return
            await asyncio.sleep(_PROBE_S)
            now_s = len(self.said) * _PROBE_S
            payloads: list[Payload] = []
            if now_s == _ILL_AFTER_S:
                payloads += self.patient.fall_ill(self.fault, now_s)
            payloads += self.patient.telemetry(now_s)
            at = from_us(int(run.now_s * 1e6))
            self.said.append(
                [
                    Event(id=derived_id("said", len(self.said), n), timestamp=at, source="probes", payload=payload)
                    for n, payload in enumerate(payloads)
                ]
            )


def _shipped(partitions: int) -> Topology:
    spec = read_topology().spec
    streams = {name: stream.model_copy(update={"partitions": partitions}) for name, stream in spec.streams.items()}
    return resolve(spec.model_copy(update={"streams": streams}), load_agent)


# --- the oracle -----------------------------------------------------------------------------------------------------


def problems_of(run: Run) -> list[str]:
    """Everything that is wrong with what came of a run; empty when all is as it must be."""
    story = run.story
    assert isinstance(story, LoopStory)
    found = list(run.problems)
    if not run.settled:
        return [*found, f"{run.waiting()} records still wait at the end"]
    found += _door(run, story)
    found += _unique(run)
    for stage in run.topology.stages:
        found += _stage_alone(run, stage)
    found += _repair(run, story)
    streamed = {str(record.event.id) for stream in story.sunk for record in _history(run, stream) if _is_said(record)}
    if streamed != set(run.kept):
        found.append(f"the sink misses {streamed - set(run.kept)} and invents {set(run.kept) - streamed}")
    return found


def _history(run: Run, stream: str) -> Iterator[Record]:
    built_in = {stream.name: stream for stream in OPERATION_STREAMS}
    for partition in range({**run.topology.streams, **built_in}[stream].partitions):
        yield from run.mesh.history((stream, partition))


def _is_said(record: Record) -> bool:
    return record.event_type != "tick.passed"


def _payloads(run: Run, stream: str, kind: type[Any]) -> list[Any]:
    return [record.event.payload for record in _history(run, stream) if record.event_type == kind.event_type]


def _door(run: Run, story: LoopStory) -> Iterator[str]:
    """What was said is on the intake once, and per service in order."""
    said: dict[str, list[str]] = defaultdict(list)
    taken: dict[str, list[str]] = defaultdict(list)
    for event in (event for batch in story.said for event in batch):
        said[str(getattr(event.payload, "service", ""))].append(str(event.id))
    for record in _history(run, "intake"):
        taken[record.key].append(str(record.event.id))
    if said != taken:
        yield f"said was {dict(said)}, taken was {dict(taken)}"


def _unique(run: Run) -> Iterator[str]:
    """No event is on a stream twice, and none is a dead letter."""
    for stream in [*run.topology.streams, *(stream.name for stream in OPERATION_STREAMS)]:
        ids = Counter(str(record.event.id) for record in _history(run, stream))
        repeated = [event_id for event_id, times in ids.items() if times > 1]
        if repeated:
            yield f"more than once on {stream}: {repeated}"
    for record in _history(run, "dead-letters"):
        yield f"a dead letter: {record.value.decode()}"


def _stage_alone(run: Run, stage: Stage) -> Iterator[str]:
    """What a stage said that asks nobody is what it says to the same records in peace, in the same order."""
    # In which order the records of several inputs were taken is not written down; nor is, where a stage asks, what of
    # other keys it took while one was waiting.
    if len(stage.inputs) > 1 or isasyncgenfunction(stage.agent_class.process):
        return
    expected: dict[str, tuple[int, Place, int, bytes]] = {}
    for partition in range(stage.partitions):
        places: Counter[Place] = Counter()
        for output in _in_peace(run, stage, partition):
            place = output.stream, output.partition
            places[place] += 1
            expected[output.id] = partition, place, places[place], output.value
    last: dict[tuple[int, Place], int] = {}
    for stream in [*run.topology.streams, *(stream.name for stream in OPERATION_STREAMS)]:
        for record in _history(run, stream):
            if not _is_said(record) or record.event.source != stage.id:
                continue
            known = expected.pop(str(record.event.id), None)
            if known is None or known[3] != record.value or known[1] != (record.stream, record.partition):
                yield f"{stage.id} said {record.value.decode()}, and in peace {known}"
            elif known[2] <= last.get(known[:2], 0):
                yield f"{stage.id} said {record.value.decode()} out of order"
            else:
                last[known[:2]] = known[2]
    for _, place, _, value in expected.values():
        yield f"{stage.id} never said on {place} {value.decode()}"


def _in_peace(run: Run, stage: Stage, partition: int) -> Sequence[Any]:
    [place] = inputs_of(stage, partition)
    task = PartitionTask(stage, partition, Remembered(stage, Restored({place: BEGINNING})))
    task.offer(run.mesh.history(place))
    task.step()
    return task.take_commit().outputs


def _repair(run: Run, story: LoopStory) -> Iterator[str]:
    """Each action was begun once, done once, finished once and judged once; in the end the patient is well, or nothing that was tried helped."""
    started = Counter(payload.action for payload in _payloads(run, "actions", ActionStarted))
    finished = Counter(
        payload.action for payload in _payloads(run, "actions", ActionFinished) if payload.status != "refused"
    )
    judged = Counter(payload.action for payload in _payloads(run, "outcomes", OutcomeVerified))
    undone = {payload.action for payload in _payloads(run, "actions", ActionStarted) if payload.undo_of is not None}
    for name, counts in (("started", started), ("finished", finished), ("judged", judged)):
        if counts and max(counts.values()) > 1:
            yield f"an action was {name} more than once: {counts}"
    if set(started) != set(finished):
        yield f"started were {set(started)}, finished {set(finished)}"
    if {str(action) for action in started} != set(story.patient.done):
        yield f"started were {set(started)}, done {set(story.patient.done)}"
    if set(started) - undone != set(judged):
        yield f"to be judged were {set(started) - undone}, judged {set(judged)}"
    verdicts = [payload.verdict for payload in _payloads(run, "outcomes", OutcomeVerified)]
    if story.patient.fault and (not verdicts or "verified" in verdicts):
        yield f"the patient still has {story.patient.fault!r} after {len(story.said) * _PROBE_S} s: {verdicts}"
