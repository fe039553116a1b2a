"""Quix Streams: the windowed count with RocksDB state, a changelog on Kafka, and final windows to a topic."""

from __future__ import annotations

from typing import Any

from quixstreams import Application
from quixstreams.models import TopicConfig

from tests.benchmarks.peers.measured import (
    COUNTED,
    LATENESS_S,
    PARTITIONS,
    WINDOW_S,
    Meter,
    arguments,
    systems,
)

given = arguments()
known = systems(given.keys)
meter = Meter(given.events)


def wanted(sample: dict[str, Any]) -> bool:
    """Filter and look up."""
    payload = sample["payload"]
    return payload["metric"] == COUNTED and payload["service"] in known


def main() -> None:
    """Run until all events were seen; the last checkpoint is part of the measurement."""
    app = Application(
        broker_address=given.broker,
        consumer_group=given.output,
        auto_offset_reset="earliest",
        state_dir=given.scratch,
        loglevel="ERROR",
    )
    config = TopicConfig(num_partitions=PARTITIONS, replication_factor=1)
    samples = app.topic(given.input, key_deserializer="str", value_deserializer="json", config=config)
    windows = app.topic(given.output, key_serializer="str", value_serializer="json", config=config)

    def count(sample: dict[str, Any]) -> None:
        if meter.count():
            app.stop()  # after this event, with a last checkpoint

    stream = app.dataframe(samples).update(count).filter(wanted)
    counts = stream.tumbling_window(WINDOW_S * 1000, grace_ms=LATENESS_S * 1000).count()
    counts.final(closing_strategy="partition").to_topic(windows)
    app.run()
    meter.report(given.result)


if __name__ == "__main__":
    main()
