"""Rules about streams that are not stored: two stages with nothing but memory between them run as one task.

What is passed on in memory lies nowhere.  So nobody else may need it, and the two stages must be able to move together:
the same partitions by the same key, one state, one commit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from topology.agent import is_plain
from topology.defects import Defect, Path, show_names
from topology.draft import Draft, DraftStage
from topology.graph import Stream

_STORE_IT = "take `stored: false` from it"


def passing_defects(draft: Draft, written_outside: Collection[str], read_outside: Collection[str]) -> Iterator[Defect]:
    """Everything because of which a stream cannot be passed on in memory alone."""
    for stream in draft.streams.values():
        if stream.stored:
            continue
        yield from _asks_for_storage(draft, stream)
        yield from _others_need_it(draft, stream, written_outside, read_outside)
        writers = [stage for stage in draft.stages if stream in stage.outputs]
        readers = [stage for stage in draft.stages if stream in stage.inputs]
        if len(writers) != 1 or len(readers) != 1:
            yield _defect(
                draft,
                stream,
                found=f"stream {stream.name!r} in memory only, written by {_ids(writers)} and read by {_ids(readers)}",
                expected="one stage that emits it and one that consumes it",
                remedy=f"{_STORE_IT}, or let one stage do it",
            )
            continue
        [writer], [reader] = writers, readers
        yield from _cannot_be_one(draft, stream, writer, reader)
    yield from _rings(draft)


def _asks_for_storage(draft: Draft, stream: Stream) -> Iterator[Defect]:
    spec = stream.spec
    asked = {
        "ticks": spec.ticks is not None,
        "retain": spec.retain is not None,
        "archive": spec.archive,
        "priority": spec.priority != "normal",
    }
    for name in [name for name, is_asked in asked.items() if is_asked]:
        yield _defect(
            draft,
            stream,
            name,
            found=f"`{name}` for stream {stream.name!r}, which is in memory only",
            expected="nothing that needs a stream on the mesh",
            remedy=f"take `{name}` from it, or `stored: false`",
        )


def _others_need_it(
    draft: Draft, stream: Stream, written_outside: Collection[str], read_outside: Collection[str]
) -> Iterator[Defect]:
    for names, who in ((written_outside, "which sources write"), (read_outside, "which a sink reads")):
        if stream.name in names:
            yield _defect(
                draft,
                stream,
                found=f"stream {stream.name!r}, {who}, in memory only",
                expected="a stream on the mesh, where others find it",
                remedy=_STORE_IT,
            )
    emitted = {kind for stage in draft.stages if stage.agent_class for kind in stage.agent_class.emits}
    unsaid = show_names(payload.__name__ for payload in stream.carries - emitted)
    if stream.carries - emitted:
        yield _defect(
            draft,
            stream,
            "carries",
            found=f"stream {stream.name!r} in memory only, with {unsaid}, which no stage emits",
            expected="nothing that comes from elsewhere",
            remedy=f"take {unsaid} from what it carries, or `stored: false` from it",
        )


def _cannot_be_one(draft: Draft, stream: Stream, writer: DraftStage, reader: DraftStage) -> Iterator[Defect]:
    between = f"{stream.name!r}, which stage {writer.id!r} passes on in memory"
    for one in writer.inputs[:1]:
        if (one.spec.key, one.partitions) != (stream.spec.key, stream.partitions):
            yield _defect(
                draft,
                stream,
                found=f"stream {between}, with {_layout(stream)}, and its input {one.name!r} with {_layout(one)}",
                expected="the same, so that every key stays in its partition",
                remedy=f"change one of them, or {_STORE_IT}",
            )
    if len(reader.inputs) > 1:
        yield _stage_defect(
            draft,
            reader,
            "consumes",
            found=f"stage {reader.id!r} reading {between}, and {len(reader.inputs) - 1} more",
            expected="a stage that reads nothing else",
            remedy=f"store {stream.name!r}, or read the others in another stage",
        )
    edge = reader.edges.get(stream.name)
    if edge is not None and edge.lag_max is not None:
        yield _stage_defect(
            draft,
            reader,
            "consumes",
            found=f"`lag_max` on {between}",
            expected="no limit where nothing can wait",
            remedy="put the limit on what the first stage of the task reads",
        )
    if reader.spec.on_poison == "halt":
        yield _stage_defect(
            draft,
            reader,
            "on_poison",
            found=f"`halt` at stage {reader.id!r}, which reads {between}",
            expected="park-key or skip: what comes after a poisoned event could wait nowhere",
            remedy=f"choose one of them, or store {stream.name!r}",
        )
    for stage in (writer, reader):
        if stage.agent_class is not None and not is_plain(stage.agent_class):
            yield _stage_defect(
                draft,
                stage,
                "agent",
                found=f"stage {stage.id!r} beside {stream.name!r}, which is in memory only, with the agent {stage.spec.agent}",
                expected="one that asks the world nothing and has neither `learn` nor `offer_help`, as all in one task",
                remedy=f"store {stream.name!r}",
            )
    if sum(not output.stored for output in writer.outputs) > 1 and writer.outputs.index(stream):
        yield _stage_defect(
            draft,
            writer,
            "emits",
            found=f"stage {writer.id!r} with several outputs in memory only",
            expected="one",
            remedy="store the others",
        )


def _rings(draft: Draft) -> Iterator[Defect]:
    """Stages that hear only from each other, and not from the mesh."""
    for stage in draft.stages:
        seen, at = {stage.path}, _before(draft, stage)
        while at is not None and at.path not in seen:
            seen.add(at.path)
            at = _before(draft, at)
        if at is not None and at.path == stage.path:
            yield _stage_defect(
                draft,
                stage,
                "consumes",
                found=f"stage {stage.id!r} hearing, in memory only, what it says itself or leads to",
                expected="a stage at the beginning of the task that reads from the mesh",
                remedy="store one of these streams",
            )


def _before(draft: Draft, stage: DraftStage) -> DraftStage | None:
    for other in draft.stages:
        if any(not stream.stored and stream in other.outputs for stream in stage.inputs):
            return other
    return None


def _defect(draft: Draft, stream: Stream, at: str = "stored", *, found: str, expected: str, remedy: str) -> Defect:
    path: Path = ("streams", stream.name, at)
    return draft.places.defect(path, found=found, expected=expected, remedy=remedy)


def _stage_defect(draft: Draft, stage: DraftStage, at: str, *, found: str, expected: str, remedy: str) -> Defect:
    return draft.places.defect((*stage.path, at), found=found, expected=expected, remedy=remedy)


def _layout(stream: Stream) -> str:
    return f"{stream.partitions} partitions by {stream.spec.key!r}"


def _ids(stages: list[DraftStage]) -> str:
    return show_names(repr(stage.id) for stage in stages)
