"""The input of every benchmark, ours and the peers': requests that services report, and what must come of them.

Events of about 200 bytes of JSON; services drawn by Zipf's law; one event in twenty comes late by up to 1.5 seconds; one
in ten reports something else than requests and must be filtered out; one service in a hundred is in no system, and must
be dropped by the lookup.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from pipeline.engine.record import partition_of
from topology.moments import from_us

COUNTED = "requests"
"""The metric that passes the filter."""
WINDOW_US = 10_000_000
LATENESS_US = 2_000_000
ENDS = frozenset(f"end-{number}" for number in range(256))
"""Services that exist to report once, an hour later, as the last of their partition: that closes every window."""

_DELAY_US = 1_500_000
_OUT_OF_ORDER = 0.05
_FILTERED = 0.1
_SYSTEMS = 50
_UNKNOWN_EVERY = 100
_HOUR_US = 3_600_000_000


class Sample(NamedTuple):
    """One event of the input, as JSON and as the oracle sees it."""

    partition: int
    id: str
    service: str
    metric: str
    at_us: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Workload:
    """So many events of so many services.

    Attributes:
        rate: events per second of event time.
        start_us: when the first one happened; a whole number of windows since the epoch.
    """

    events: int
    keys: int
    partitions: int = 8
    rate: int = 10_000
    start_us: int = 1_800_000_000_000_000
    seed: int = 7

    def samples(self) -> Iterator[Sample]:
        """The events, in the order in which they come; the same ones each time."""
        chance = random.Random(self.seed)  # noqa: S311 - repeatable on purpose
        services = [service(rank) for rank in range(self.keys)]
        weights = list(accumulate(1 / (rank + 1) for rank in range(self.keys)))
        partitions = {name: partition_of(name, self.partitions) for name in services}
        for number, name in enumerate(chance.choices(services, cum_weights=weights, k=self.events)):
            at_us = self.start_us + number * 1_000_000 // self.rate
            if chance.random() < _OUT_OF_ORDER:
                at_us = max(self.start_us, at_us - chance.randrange(_DELAY_US))
            metric = "restarts" if chance.random() < _FILTERED else COUNTED
            yield _sample(partitions[name], chance.getrandbits(128), name, metric, at_us)
        end_us = self.start_us + self.events * 1_000_000 // self.rate + _HOUR_US
        ends = {partition_of(name, self.partitions): name for name in sorted(ENDS)}
        for partition in range(self.partitions):
            yield _sample(partition, chance.getrandbits(128), ends[partition], COUNTED, end_us)

    @property
    def total(self) -> int:
        """How many samples there are, those that end the partitions included."""
        return self.events + self.partitions


Windows = dict[tuple[str, int], int]
"""(service, end of the window in microseconds) -> how many."""


def counted_windows(samples: Iterator[Sample], keys: int) -> Windows:
    """The oracle: every window that must come out, and its count."""
    known = systems(keys)
    windows: Windows = {}
    for sample in samples:
        if sample.metric == COUNTED and sample.service in known and sample.service not in ENDS:
            window = sample.service, sample.at_us - sample.at_us % WINDOW_US + WINDOW_US
            windows[window] = windows.get(window, 0) + 1
    return windows


@lru_cache(maxsize=4)
def systems(keys: int) -> dict[str, str]:
    """What is looked up: service -> the system it belongs to; every hundredth service is in none."""
    known = {service(rank): f"system-{rank % _SYSTEMS}" for rank in range(keys) if (rank + 1) % _UNKNOWN_EVERY}
    return known | dict.fromkeys(ENDS, "end")


def service(rank: int) -> str:
    """The name of a service by how busy it is, 0 the busiest."""
    return f"service-{rank:06d}"


def _sample(partition: int, bits: int, name: str, metric: str, at_us: int) -> Sample:
    digits = f"{bits:032x}"
    # Version 7, as the door gives to events without an identity of their own.
    event_id = f"{digits[:8]}-{digits[8:12]}-7{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"
    moment = from_us(at_us).isoformat(timespec="microseconds").replace("+00:00", "Z")
    value = (
        f'{{"id":"{event_id}","timestamp":"{moment}","event_type":"metric.sampled","source":"bench",'
        f'"payload":{{"service":"{name}","metric":"{metric}","value":1.0}}}}'
    )
    return Sample(partition, event_id, name, metric, at_us, value.encode())
