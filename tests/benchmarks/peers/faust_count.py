"""Faust: the windowed count as a tumbling table with a changelog on Kafka.

Windows are not emitted: Faust closes them by the wall's clock, so on a stream of the past it would say wrong ones (and
more of them).  The counts are read from the table instead, which spares Faust that part of the work.
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from typing import Any

import faust

from tests.benchmarks.peers.measured import COUNTED, PARTITIONS, WINDOW_S, Meter, arguments, systems

given = arguments()
known = systems(given.keys)
meter = Meter(given.events)
app = faust.App(
    given.output,
    broker=f"kafka://{given.broker}",
    store="memory://",
    datadir=str(given.scratch),
    topic_partitions=PARTITIONS,
    consumer_auto_offset_reset="earliest",
    stream_buffer_maxsize=131_072,
    web_enabled=False,
)
samples = app.topic(given.input, key_type=str, key_serializer="raw", value_serializer="json", partitions=PARTITIONS)
requests = (
    app.Table("requests", default=int, partitions=PARTITIONS)
    .tumbling(timedelta(seconds=WINDOW_S), expires=timedelta(days=365))
    .relative_to_stream()
)


async def count(stream: Any) -> None:
    """Filter, look up, count."""
    async for sample in stream:
        last = meter.count()
        payload = sample["payload"]
        if payload["metric"] == COUNTED and payload["service"] in known:
            requests[payload["service"]] += 1
        if last:
            meter.stop()
            windows = [[key[0], key[1][0], value] for key, value in requests.table.items()]
            meter.report(given.result, windows=windows)
            await asyncio.sleep(0)
            os._exit(0)  # what it would still do is not measured


app.agent(samples)(count)

if __name__ == "__main__":
    worker = faust.Worker(app, loglevel="error", redirect_stdouts=False)
    worker.execute_from_commandline()
