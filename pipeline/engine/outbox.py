"""What a commit on a Redis Cluster sends to other slots: written to an outbox in its own slot, and forwarded from there.

A commit is one script, and a script reaches one slot.  So an output to a partition of another slot becomes an entry of
the outbox, in the same script; :class:`pipeline.engine.forwarder.Forwarder` reads it and appends it where it belongs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pipeline.engine.keys import OUTBOX, Keys, slot_of
from pipeline.engine.mesh import Lease
from pipeline.engine.record import Commit, Output, Place, Record

ENTRIES_PER_BATCH = 500
REMEMBERED_ENTRIES = 2 * ENTRIES_PER_BATCH
"""Of an outbox, in each partition it brought something to.  What may come again is the last batch: the next one is begun
when the outbox' offset is committed past it, and a forwarder that was replaced is refused."""

T = TypeVar("T")


def by_slot(items: Iterable[T], partition: Callable[[T], int]) -> list[list[T]]:
    """What may be in one call, together; each in its order."""
    together: dict[int, list[T]] = defaultdict(list)
    for item in items:
        together[slot_of(partition(item))].append(item)
    return list(together.values())


def through_outbox(commit: Commit) -> Commit:
    """The same commit, with outputs to other slots addressed and put into the outbox of its own slot."""
    here = slot_of(commit.partition)
    outputs = [output if slot_of(output.partition) == here else _enclosed(output, here) for output in commit.outputs]
    return replace(commit, outputs=outputs)


def inputs_elsewhere(commit: Commit) -> list[Place]:
    """Inputs of a commit that lie in other slots than it does."""
    here = slot_of(commit.partition)
    return [place for place in commit.offsets if slot_of(place[1]) != here]


def opened(record: Record) -> Output:
    """The output that an entry of an outbox encloses."""
    stream, partition, event_id, key = record.key.split("/", 3)
    return Output(stream, int(partition), key, record.event_type, event_id, record.value)


def forward_call(keys: Keys, lease: Lease, entries: Sequence[Record]) -> tuple[list[str], list[Any], list[Place]]:
    """Keys and arguments of ``forward.lua``, and the partitions it is about: entries of one outbox, all for one slot."""
    outbox = lease.partition
    outputs = [opened(entry) for entry in entries]
    named = [keys.forwarded(outputs[0].partition)]
    args: list[Any] = [outbox, lease.token.partition(" ")[0], REMEMBERED_ENTRIES]
    index: dict[Place, int] = {}
    for entry, output in zip(entries, outputs, strict=True):
        place = output.stream, output.partition
        if place not in index:
            index[place] = len(index) + 1
            named += [keys.partition(place), keys.came_from(place, outbox)]
        # An offset may come again with another event, when a primary lost its last writes; an event, when it is put on
        # a stream twice on purpose.
        args += [index[place], f"{entry.offset} {output.id}", output.key, output.event_type, output.value]
    return named, args, list(index)


def _enclosed(output: Output, slot: int) -> Output:
    address = f"{output.stream}/{output.partition}/{output.id}/{output.key}"
    return Output(OUTBOX, slot, address, output.event_type, output.id, output.value)
