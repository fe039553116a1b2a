"""Says how this host and the processes of watched services are doing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import psutil

from pipeline.security.masking import mask_event
from pipeline.sources.host_metrics import FileSystems, Instrument, host_instruments
from pipeline.sources.identity import new_id
from pipeline.sources.processes import ProcessWatch, WatchedProcess
from pipeline.sources.source import Publish
from topology.event import Event, Payload
from topology.payloads.signals import MetricSampled

log = logging.getLogger(__name__)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class HostSource:
    """Publishes ``MetricSampled`` of the host, under its name as service, and of the processes of services.

    Which metrics, and what they mean: :mod:`pipeline.sources.host_metrics`, :mod:`pipeline.sources.processes`.
    Utilizations are shares from 0 to 1, of processes in cores.  Samples taken together have one time, that of their end.
    Turns that were missed, because ``publish`` waited or the machine slept, are not made up for.

    Attributes:
        unavailable: what cannot be measured here at the moment, and why.

    Args:
        host: the name of the host.
        interval_s: from one sample of the host to the next.
        processes: the processes of which services to measure; none, and no process is looked at.
        process_interval_s: from one sample of the processes to the next.
        clock: gives the samples their times; rates are measured on the machine's steady clock.
        name: the source's id.
    """

    def __init__(
        self,
        *,
        host: str,
        interval_s: float = 2.0,
        processes: Sequence[WatchedProcess] = (),
        process_interval_s: float = 1.0,
        clock: Callable[[], datetime] = _utc_now,
        name: str = "host",
    ) -> None:
        self.unavailable: dict[str, str] = {}
        self._host = host
        self._interval_s = interval_s
        self._processes = tuple(processes)
        self._process_interval_s = process_interval_s
        self._clock = clock
        self._name = name

    async def run(self, publish: Publish) -> None:
        """Measure until cancelled; see :class:`pipeline.sources.source.Source`."""
        # Instruments are made for each run: one that is stuck in a thread of the last run must not share them. File systems
        # have a loop of their own, because one on a dying disk may not answer.
        rounds: list[tuple[float, Mapping[str, Instrument]]] = [
            (self._interval_s, host_instruments(self._host)),
            (self._interval_s, {"file systems": FileSystems(self._host).sample}),
        ]
        if self._processes:
            rounds.append((self._process_interval_s, {"processes": ProcessWatch(self._processes).sample}))
        try:
            async with asyncio.TaskGroup() as tasks:
                for every_s, instruments in rounds:
                    tasks.create_task(self._sample(instruments, publish, every_s=every_s))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures

    async def _sample(self, instruments: Mapping[str, Instrument], publish: Publish, *, every_s: float) -> None:
        next_at = time.monotonic()
        while True:
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))
            # In a thread: the kernel may keep a reader of a process's command line waiting.
            samples = await asyncio.to_thread(self._read, instruments)
            if samples:
                at = self._clock()
                await publish([self._event(sample, at) for sample in samples])
            turns_missed = max(0, int((time.monotonic() - next_at) / every_s))
            next_at += (1 + turns_missed) * every_s

    def _read(self, instruments: Mapping[str, Instrument]) -> list[MetricSampled]:
        samples: list[MetricSampled] = []
        for what, measure in instruments.items():
            try:
                samples.extend(measure())
            except (OSError, RuntimeError, psutil.Error) as error:  # psutil's ways to say: not on this platform
                if what not in self.unavailable:
                    log.warning("cannot measure %s of this host: %s", what, error)
                self.unavailable[what] = str(error) or type(error).__name__
            else:
                self.unavailable.pop(what, None)
        return samples

    def _event(self, sample: MetricSampled, at: datetime) -> Event[Payload]:
        return mask_event(Event(id=new_id(), timestamp=at, source=self._name, payload=sample))
