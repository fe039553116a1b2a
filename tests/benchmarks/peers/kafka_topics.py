"""Fills and reads the peers' topics; runs in the environment of a peer that has confluent-kafka.

python -m tests.benchmarks.peers.kafka_topics fill BROKER TOPIC FILE      lines of partition, ms, key, event (tabs)
python -m tests.benchmarks.peers.kafka_topics make BROKER TOPIC
python -m tests.benchmarks.peers.kafka_topics read BROKER TOPIC FILE      lines of key, event (tabs)
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.benchmarks.peers.measured import PARTITIONS


def make(broker: str, topic: str) -> None:
    """A topic with as many partitions as our streams."""
    wanted = NewTopic(topic, num_partitions=PARTITIONS, replication_factor=1)
    client = AdminClient({"bootstrap.servers": broker})  # by name, since what it does ends with it
    for made in client.create_topics([wanted]).values():
        made.result(timeout=30)


def fill(broker: str, topic: str, file: str) -> None:
    """A new topic with the lines of the file; all acknowledged when it returns."""
    make(broker, topic)
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 20, "queue.buffering.max.messages": 200_000})
    with Path(file).open(encoding="utf-8") as lines:
        for line in lines:
            partition, at_ms, key, event = line.rstrip("\n").split("\t")
            while True:
                try:
                    producer.produce(topic, event, key, int(partition), timestamp=int(at_ms))
                except BufferError:
                    producer.poll(0.1)
                else:
                    break
            producer.poll(0)
    if left := producer.flush(60):
        raise SystemExit(f"{left} events were not acknowledged")


def read(broker: str, topic: str, file: str) -> None:
    """Everything that is in a topic now."""
    consumer = Consumer(
        {"bootstrap.servers": broker, "group.id": "reader", "enable.auto.commit": False, "enable.partition.eof": True}
    )
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
    ended: set[int] = set()
    with Path(file).open("w", encoding="utf-8") as lines:
        while len(ended) < PARTITIONS:
            for message in consumer.consume(1_000, timeout=0.5):
                error = message.error()
                if error is None:
                    lines.write(f"{(message.key() or b'').decode()}\t{message.value().decode()}\n")
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
                else:
                    raise SystemExit(str(error))
    consumer.close()


if __name__ == "__main__":
    verbs: dict[str, Callable[..., None]] = {"make": make, "fill": fill, "read": read}
    verbs[sys.argv[1]](*sys.argv[2:])
