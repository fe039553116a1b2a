"""Rules about the flow as a whole: what nobody writes, what nobody reads, what cannot be reached, what goes round."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping

from topology.defects import Defect, Path
from topology.draft import Draft, DraftStage
from topology.graph import Stream

Step = tuple[DraftStage, Stream]
"""A stage, and the stream by which it reaches the next one."""


def flow_defects(
    draft: Draft, *, written_outside: Collection[str], read_outside: Collection[str] | None
) -> Iterator[Defect]:
    """What a reader of the graph would wonder about; only stages that wait for each other keep it from running."""
    written = {stream.name for stage in draft.stages for stream in stage.outputs} | set(written_outside)
    yield from _unwritten(draft, written)
    yield from _unread(draft, read_outside)
    yield from _unreachable(draft, written, written_outside)
    yield from _loops(draft)
    yield from _blocking_loops(draft)


def _unwritten(draft: Draft, written: Collection[str]) -> Iterator[Defect]:
    for name in draft.streams:
        if name not in written:
            yield draft.places.defect(
                ("streams", name),
                found=f"stream {name!r}, which no stage and no source writes",
                expected="something that writes it",
                remedy=f"add {name!r} to the `emits` of a stage, or remove the stream",
                severity="warning",
            )


def _unread(draft: Draft, read_outside: Collection[str] | None) -> Iterator[Defect]:
    if read_outside is None:
        return
    read = {stream.name for stage in draft.stages for stream in stage.inputs} | set(read_outside)
    for name in draft.streams:
        if name not in read:
            yield draft.places.defect(
                ("streams", name),
                found=f"stream {name!r}, which no stage and no sink reads",
                expected="something that reads it",
                remedy=f"add {name!r} to the `consumes` of a stage or to a sink, or remove the stream",
                severity="warning",
            )


def _unreachable(draft: Draft, written: Collection[str], written_outside: Collection[str]) -> Iterator[Defect]:
    """Stages that feed only each other; a stage whose input nobody writes is told once, at the stream."""
    flowing = {name for name, stream in draft.streams.items() if name in written_outside or stream.spec.ticks}
    waiting = [stage for stage in draft.stages if stage.inputs]
    while woken := [stage for stage in waiting if any(stream.name in flowing for stream in stage.inputs)]:
        flowing |= {stream.name for stage in woken for stream in stage.outputs}
        waiting = [stage for stage in waiting if stage not in woken]
    for stage in waiting:
        if all(stream.name in written for stream in stage.inputs):
            inputs = ", ".join(repr(stream.name) for stream in stage.inputs)
            yield draft.places.defect(
                (*stage.path, "consumes"),
                found=f"stage {stage.id!r} reading only {inputs}, and no path from a source leading there",
                expected="a way from a source to every stage",
                remedy="let a stage that hears from a source write one of them",
                severity="warning",
            )


def _loops(draft: Draft) -> Iterator[Defect]:
    """Feedback without a timer in it: it may be meant, but nothing slows it down."""
    following = {stage.path: _followers(draft, stage) for stage in draft.stages}
    for start, loop in _told_once(draft, following):
        if any(stream.spec.ticks for _, stream in loop):
            continue
        yield draft.places.defect(
            start.path,
            found=f"a loop without ticks: {_way(loop)} -> {start.id}",
            expected="an end to every story that goes round",
            remedy="see that one of these stages stops, or give one of the streams `ticks` to pace it",
            severity="info",
        )


def _blocking_loops(draft: Draft) -> Iterator[Defect]:
    """Stages that would wait for each other for ever: each writes a stream on which the next lets it wait.

    Stages of one task wait together.
    """
    following: dict[Path, list[Step]] = {}
    for stage in draft.stages:
        following[stage.path] = [
            (other, stream)
            for stream in stage.outputs
            for other in draft.stages
            if stream in other.inputs
            and (not stream.stored or (stream.name in other.edges and other.edges[stream.name].blocks))
        ]
    for start, loop in _told_once(draft, following):
        yield draft.places.defect(
            start.path,
            found=f"a loop of stages that let each other wait: {_way(loop)} -> {start.id}",
            expected="an end of every chain of `lag_max` with `when_full: block`",
            remedy="take `lag_max` from one of these inputs, or let it shed",
        )


def _told_once(draft: Draft, following: Mapping[Path, list[Step]]) -> Iterator[tuple[DraftStage, tuple[Step, ...]]]:
    """Loops, each with a stage it begins at; of those that share stages one."""
    told: set[Path] = set()
    for start in draft.stages:
        if start.path in told:
            continue
        loop = _shortest_loop(start, following)
        if not loop:
            continue
        told |= {stage.path for stage, _ in loop}
        yield start, loop


def _way(loop: tuple[Step, ...]) -> str:
    return " -> ".join(f"{stage.id} -> [{stream.name}]" for stage, stream in loop)


def _followers(draft: Draft, stage: DraftStage) -> list[Step]:
    """The stages that consume a type this one emits, each with the stream that leads there."""
    if stage.agent_class is None:
        return []
    found: dict[int, Step] = {}
    for emitted in sorted(stage.agent_class.emits, key=lambda payload: payload.__name__):
        for stream in stage.outputs_for(emitted):
            for index, other in enumerate(draft.stages):
                if other.agent_class is None or stream not in other.inputs:
                    continue
                if emitted in other.agent_class.consumes and emitted in other.takes(stream):
                    found.setdefault(index, (other, stream))
    return [found[index] for index in sorted(found)]


def _shortest_loop(start: DraftStage, following: Mapping[Path, list[Step]]) -> tuple[Step, ...]:
    ways: deque[tuple[DraftStage, tuple[Step, ...]]] = deque([(start, ())])
    seen: set[Path] = set()
    while ways:
        stage, way = ways.popleft()
        for other, stream in following[stage.path]:
            longer = (*way, (stage, stream))
            if other is start:
                return longer
            if other.path not in seen:
                seen.add(other.path)
                ways.append((other, longer))
    return ()
