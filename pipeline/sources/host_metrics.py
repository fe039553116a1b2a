"""What a machine says of itself: processors, memory, load, file systems, disks and network, as OpenTelemetry names them.

Each instrument gives what it can measure now.  What needs two looks is left out of the first; what this platform does not
tell, or not to us, is an error of the instrument and never a made-up value.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from topology.payloads.signals import MetricSampled

Instrument = Callable[[], Iterable[MetricSampled]]
"""Measures once; blocks for microseconds, and where a disk does not answer for as long as that lasts.

Raises ``OSError``, ``RuntimeError`` or ``psutil.Error`` where there is nothing to measure.
"""

_LOOK_FOR_MOUNTS_EVERY_S = 60.0
_LOOPBACK = re.compile(r"lo\d*|Loopback.*")
_IDLE = ("idle", "iowait")
_COUNTED_TWICE = ("guest", "guest_nice")
"""A guest's time is in the time of its host process too."""


def host_instruments(host: str) -> Mapping[str, Instrument]:
    """The instruments that answer at once, by what they measure."""
    return {
        "cpu": Cpu(host).sample,
        "memory": lambda: [_memory(host)],
        "load": lambda: [_load(host)],
        "network": Network(host).sample,
        "disks": Disks(host).sample,
    }


class Cpu:
    """``system.cpu.utilization``: the share of all cores' time since the last sample in which they were busy.

    Waiting for a disk is not busy.  (psutil has this too, but remembers the last sample per thread.)
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._last: Mapping[str, float] | None = None

    def sample(self) -> list[MetricSampled]:
        """See :data:`Instrument`."""
        times: Mapping[str, float] = psutil.cpu_times()._asdict()
        last, self._last = self._last, times
        busy = busy_share(last, times) if last else None
        return [] if busy is None else [MetricSampled(service=self._host, metric="system.cpu.utilization", value=busy)]


def busy_share(before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    """The busy share, 0 to 1, of the time between two readings of seconds by state; None where no time has passed."""
    spent = {state: after[state] - before.get(state, 0.0) for state in after if state not in _COUNTED_TWICE}
    total_s = sum(spent.values())
    if total_s <= 0:
        return None
    idle_s = sum(spent.get(state, 0.0) for state in _IDLE)
    # The kernel's count of waiting may go back a little.
    return min(1.0, max(0.0, 1.0 - idle_s / total_s))


class CounterRates:
    """How fast counters run that may come, go, and begin again at zero."""

    def __init__(self) -> None:
        self._last: tuple[float, Mapping[str, Sequence[int]]] | None = None

    def per_s(self, counts: Mapping[str, Sequence[int]], *, at_s: float) -> list[float] | None:
        """The summed rates since the last call; None when there is nothing to compare with.

        A thing whose counters were not there the last time, or have gone back, is not in the sum: how much it counted
        in between is not known.

        Args:
            counts: for each counted thing, such as a network interface, the same counters in the same order.
            at_s: when they were read, on a clock that never goes back.
        """
        last, self._last = self._last, (at_s, counts)
        if last is None or at_s <= last[0]:
            return None
        grown = [
            [now - before for now, before in zip(numbers, last[1][thing], strict=True)]
            for thing, numbers in counts.items()
            if thing in last[1] and all(now >= before for now, before in zip(numbers, last[1][thing], strict=True))
        ]
        if not grown:
            return None
        return [sum(column) / (at_s - last[0]) for column in zip(*grown, strict=True)]


class Network:
    """``system.network.io`` in bytes per second and ``system.network.errors`` per second, by ``direction``.

    Sums over all interfaces but loopback; what passes a bridge is counted at each interface it passes.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._rates = CounterRates()

    def sample(self) -> list[MetricSampled]:
        """See :data:`Instrument`."""
        counts = {
            name: (nic.bytes_recv, nic.bytes_sent, nic.errin, nic.errout)
            for name, nic in psutil.net_io_counters(pernic=True, nowrap=False).items()
            if not _LOOPBACK.fullmatch(name)
        }
        rates = self._rates.per_s(counts, at_s=time.monotonic())
        if rates is None:
            return []
        received, sent, errors_in, errors_out = rates
        return [
            _rate(self._host, "system.network.io", "receive", received, "By/s"),
            _rate(self._host, "system.network.io", "transmit", sent, "By/s"),
            _rate(self._host, "system.network.errors", "receive", errors_in, "1/s"),
            _rate(self._host, "system.network.errors", "transmit", errors_out, "1/s"),
        ]


class Disks:
    """``system.disk.io`` in bytes per second, by ``direction``: the sum over all disks."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._rates = CounterRates()

    def sample(self) -> list[MetricSampled]:
        """See :data:`Instrument`."""
        disks = psutil.disk_io_counters(nowrap=False)
        if disks is None:  # a machine without disks
            return []
        rates = self._rates.per_s({"disks": (disks.read_bytes, disks.write_bytes)}, at_s=time.monotonic())
        if rates is None:
            return []
        return [
            _rate(self._host, "system.disk.io", "read", rates[0], "By/s"),
            _rate(self._host, "system.disk.io", "write", rates[1], "By/s"),
        ]


class FileSystems:
    """``system.filesystem.utilization`` by ``mountpoint``: the share, 0 to 1, of what users may fill, as `df` has it.

    Of those on disks of this machine, and of ``/`` whatever it is on (in a container it is on no disk).  Not of those
    that cannot be written: an image mounted read-only is always full.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._mountpoints: list[str] = []
        self._look_at_s = 0.0

    def sample(self) -> list[MetricSampled]:
        """See :data:`Instrument`."""
        now_s = time.monotonic()
        if now_s >= self._look_at_s:
            mounted = ["/", *(partition.mountpoint for partition in psutil.disk_partitions(all=False))]
            self._mountpoints = writable_file_systems(mounted)
            self._look_at_s = now_s + _LOOK_FOR_MOUNTS_EVERY_S
        samples = []
        for mountpoint in self._mountpoints:
            try:
                usage = psutil.disk_usage(mountpoint)
            except OSError:  # unmounted, or taken away, since the last look
                self._look_at_s = 0.0
                continue
            if usage.used + usage.free > 0:
                samples.append(
                    MetricSampled(
                        service=self._host,
                        metric="system.filesystem.utilization",
                        value=usage.used / (usage.used + usage.free),
                        labels={"mountpoint": mountpoint},
                    )
                )
        return samples


def writable_file_systems(mountpoints: Iterable[str]) -> list[str]:
    """Of these, the folders on file systems that can be written, each file system once, at the first place named."""
    places: dict[int, str] = {}
    for mountpoint in mountpoints:
        try:
            writable = not os.statvfs(mountpoint).f_flag & os.ST_RDONLY
            device = Path(mountpoint).stat().st_dev
        except OSError:  # not for us to see
            continue
        if writable and Path(mountpoint).is_dir():  # containers have single files mounted, each as if it was a disk
            places.setdefault(device, mountpoint)
    return list(places.values())


def _memory(host: str) -> MetricSampled:
    """The share that programs could not get without swapping."""
    memory = psutil.virtual_memory()
    return MetricSampled(
        service=host, metric="system.memory.utilization", value=(memory.total - memory.available) / memory.total
    )


def _load(host: str) -> MetricSampled:
    return MetricSampled(service=host, metric="system.cpu.load_average.1m", value=psutil.getloadavg()[0])


def _rate(host: str, metric: str, direction: str, value: float, unit: str) -> MetricSampled:
    return MetricSampled(service=host, metric=metric, value=value, unit=unit, labels={"direction": direction})
