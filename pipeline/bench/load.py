"""An open loop: events are due by the clock, however slow the answer is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.bench.rig import output_of
from pipeline.bench.workload import Sample
from pipeline.engine.mesh import Mesh

_TICK_S = 0.001


@dataclass(frozen=True, slots=True)
class Sent:
    """When each event was due, in milliseconds of the clock the server uses too.

    Latency is taken from there and not from when the event was really sent: a generator that is held up by what it
    measures would leave out just the events that would have waited longest (coordinated omission).
    """

    due_ms: dict[str, float]


async def send_at_rate(
    mesh: Mesh, samples: Sequence[Sample], rate: float, *, until: Callable[[], bool] = lambda: False
) -> Sent:
    """Publish each sample when it is due, or at once when its time has passed already.

    Args:
        until: asked now and then; ends the sending early.
    """
    outputs = [output_of(sample) for sample in samples]
    began_s, began_ms = time.perf_counter(), time.time() * 1000
    sent = 0
    while sent < len(outputs) and not until():
        due = min(len(outputs), int((time.perf_counter() - began_s) * rate) + 1)
        if due > sent:
            await mesh.publish(outputs[sent:due])
            sent = due
        else:
            await asyncio.sleep(_TICK_S)
    return Sent({sample.id: began_ms + number * 1000 / rate for number, sample in enumerate(samples[:sent])})
