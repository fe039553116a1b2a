"""Bytewax: the windowed count, from Kafka to Kafka with recovery on, or in memory alone (BROKER is ``memory``)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
import orjson
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from bytewax.testing import TestingSink, TestingSource

from tests.benchmarks.peers.measured import COUNTED, WINDOW_S, Meter, arguments, systems

given = arguments()
known = systems(given.keys)
meter = Meter(given.events)
START = datetime(2027, 1, 1, tzinfo=UTC)
WAIT = timedelta(hours=1)
"""Its watermark goes on with the wall's clock: where that is faster than the events, they are late and counts wrong."""

Counted = tuple[str, datetime]


def wanted(value: bytes) -> Counted | None:
    """Decode, filter, look up."""
    meter.count()
    sample = orjson.loads(value)
    payload = sample["payload"]
    if payload["metric"] != COUNTED or payload["service"] not in known:
        return None
    return payload["service"], datetime.fromisoformat(sample["timestamp"])


def window_of(counted: tuple[str, tuple[int, int]]) -> tuple[str, int, int]:
    """Service, start of the window in ms, count."""
    service, (number, count) = counted
    start = START + timedelta(seconds=WINDOW_S) * number
    return service, round(start.timestamp() * 1000), count


def dataflow(found: list[Any]) -> Dataflow:
    """From source to sink; in memory the windows are in ``found``."""
    flow = Dataflow("bench")
    if given.broker == "memory":
        values: Iterable[bytes] = [line.rsplit("\t", 1)[1].encode() for line in _lines()]
        stream = op.input("input", flow, TestingSource(values, batch_size=1_000))
    else:
        messages = op.input("input", flow, KafkaSource([given.broker], [given.input], tail=False, batch_size=1_000))
        stream = op.map("value", messages, lambda message: message.value)
    samples = op.filter_map("wanted", stream, wanted)
    clock = win.EventClock(lambda sample: sample[1], wait_for_system_duration=WAIT)
    windower = win.TumblingWindower(length=timedelta(seconds=WINDOW_S), align_to=START)
    counts = win.count_window("count", samples, clock, windower, key=lambda sample: sample[0])
    windows = op.map("window", counts.down, window_of)
    if given.broker == "memory":
        op.output("output", windows, TestingSink(found))
    else:
        out = op.map("message", windows, lambda each: KafkaSinkMessage(each[0].encode(), json.dumps(each[1:]).encode()))
        op.output("output", out, KafkaSink([given.broker], given.output))
    return flow


def main() -> None:
    """Run to the end of the input, which closes every window; that and the last snapshot are measured too."""
    found: list[Any] = []
    if given.broker == "memory":
        cli_main(dataflow(found))
    else:
        given.scratch.mkdir()
        init_db_dir(given.scratch, 1)
        cli_main(dataflow(found), epoch_interval=timedelta(seconds=5), recovery_config=RecoveryConfig(given.scratch))
    meter.stop()
    meter.report(given.result, windows=[[service, at_ms / 1000, count] for service, at_ms, count in found])


def _lines() -> list[str]:
    return Path(given.input).read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    main()
