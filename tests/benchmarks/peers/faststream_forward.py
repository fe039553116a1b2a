"""FastStream on Redis Streams: one typed output per event, without state; the control for our typed stage.

It reads with a consumer group, as many at once as it likes, and fills its stream itself, in its own wire format.
BROKER is the address of a Redis, INPUT the file of lines; OUTPUT names the streams.
"""

from __future__ import annotations

import asyncio
from typing import Any

from faststream import FastStream
from faststream.redis import BinaryMessageFormatV1, RedisBroker, StreamSub
from pydantic import BaseModel
from redis.asyncio import Redis

from tests.benchmarks.peers.measured import Meter, arguments, systems

given = arguments()
known = systems(given.keys)
meter = Meter(given.events)
SAMPLES, CONCLUSIONS, GROUP = f"{given.output}:samples", f"{given.output}:conclusions", "bench"


class Sampled(BaseModel):
    """What a service reports."""

    service: str
    metric: str
    value: float
    system: str = ""


class Sample(BaseModel):
    """The envelope."""

    id: str
    timestamp: str
    event_type: str
    source: str
    payload: Sampled


broker = RedisBroker(given.broker, message_format=BinaryMessageFormatV1, logger=None)
app = FastStream(broker, logger=None)


async def forward(sample: Sample) -> Sample:
    """Look up, and say it again."""
    last = meter.count()
    payload = sample.payload
    system = known.get(payload.service, "")
    said = sample.model_copy(update={"payload": payload.model_copy(update={"system": system})})
    if last:
        meter.stop()
        app.exit()
    return said


async def fill() -> None:
    """Put the events on the stream, before anything is measured."""
    async with Redis.from_url(given.broker) as client:
        await client.delete(SAMPLES, CONCLUSIONS)
        pipe = client.pipeline(transaction=False)
        with open(given.input, encoding="utf-8") as lines:  # noqa: ASYNC230, PTH123 - nothing else runs yet
            for line in lines:
                value = line.rstrip("\n").rsplit("\t", 1)[1]
                data = await BinaryMessageFormatV1.encode(
                    message=value.encode(),
                    reply_to=None,
                    headers={"content-type": "application/json"},
                    correlation_id="0",
                )
                pipe.xadd(SAMPLES, {"__data__": data})
        await pipe.execute()
        await client.xgroup_create(SAMPLES, GROUP, id="0")


async def read() -> list[Any]:
    """Which samples were said again, in order."""
    async with Redis.from_url(given.broker) as client:
        entries: Any = await client.xrange(CONCLUSIONS)
        data = [BinaryMessageFormatV1.parse(fields[b"__data__"])[0] for _, fields in entries]
        await client.delete(SAMPLES, CONCLUSIONS)
    return [Sample.model_validate_json(each).id for each in data]


def main() -> None:
    """Fill, run, read."""
    asyncio.run(fill())
    source = StreamSub(SAMPLES, group=GROUP, consumer="one", max_records=500, last_id=">")
    broker.subscriber(stream=source)(broker.publisher(stream=CONCLUSIONS)(forward))
    asyncio.run(app.run())
    meter.report(given.result, said=asyncio.run(read()))


if __name__ == "__main__":
    main()
