"""What the processes of watched services use, found again after each restart without reading the whole process table.

Reading the name and command line of every process takes some milliseconds per hundred of them, so each is read while it
is young, for it may yet become another program or take another name; after that once a minute.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import psutil

from topology.payloads.signals import MetricSampled

_LOOK_EVERY_S = 5.0
_HURRY_FOR_S = 10.0
"""After a process has vanished its successor is looked for with every sample, for so long."""
_YOUNG_FOR_S = 15.0
_READ_ALL_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class WatchedProcess:
    """Which processes are a service.

    Attributes:
        service: whose processes they are; it may be named several times, with a pattern each.
        pattern: a glob (``*``, ``?``, ``[...]``) for the whole of the process's name, such as ``ledger``, or the whole
            of its command line, such as ``*java *-jar billing.jar*``.
    """

    service: str
    pattern: str

    def matches(self, name: str, command_line: str) -> bool:
        """Whether a process is one of these; an empty command line is not known, and no match."""
        return fnmatchcase(name, self.pattern) or bool(command_line and fnmatchcase(command_line, self.pattern))


@dataclass(slots=True)
class _Found:
    """A process of a service, and how much processor time it had used when it was measured last."""

    service: str
    process: psutil.Process
    cpu_s: float | None = None
    cpu_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Use:
    """What one process uses; None: not told, or not yet known."""

    rss: int | None
    cpu_share: float | None
    cpu_told: bool


class ProcessWatch:
    """Measures the processes of services, and notices when they end and begin.

    For each service: ``process.up`` (1 or 0), ``process.memory.usage`` (resident bytes), ``process.cpu.utilization`` (in
    cores: 1 is one core all the time, since the last sample).  Several processes of one service are summed, so memory they
    share is counted several times; a single one has its ``pid`` as label.  What one of them does not tell (macOS: about
    other users' processes) is left out for the service.  A process that matches several services is the first one's.
    A process that has ended is not up, also while nobody has collected its exit status.
    """

    def __init__(self, watched: Iterable[WatchedProcess]) -> None:
        self._watched = tuple(watched)
        self._services = tuple(dict.fromkeys(each.service for each in self._watched))
        self._found: dict[int, _Found] = {}
        self._first_seen_s: dict[int, float] = {}
        self._look_at_s = self._read_all_at_s = self._hurry_until_s = 0.0

    def sample(self) -> list[MetricSampled]:
        """Measure once; see :data:`pipeline.sources.host_metrics.Instrument`."""
        now_s = time.monotonic()
        if self._forget_ended():
            self._hurry_until_s = now_s + _HURRY_FOR_S
        if now_s >= self._look_at_s or now_s < self._hurry_until_s:
            self._look(now_s)
        return [sample for service in self._services for sample in self._samples(service)]

    def _forget_ended(self) -> bool:
        ended = [pid for pid, found in self._found.items() if _has_ended(found.process)]
        for pid in ended:
            del self._found[pid], self._first_seen_s[pid]
        return bool(ended)

    def _look(self, now_s: float) -> None:
        """Find the processes that are not known yet."""
        first_seen_s = {pid: self._first_seen_s.get(pid, now_s) for pid in psutil.pids()}
        reads_all = now_s >= self._read_all_at_s
        for pid, seen_s in first_seen_s.items():
            if reads_all or now_s - seen_s < _YOUNG_FOR_S:
                self._read(pid)
        for pid in self._found.keys() - first_seen_s.keys():
            del self._found[pid]
        self._first_seen_s = first_seen_s
        self._look_at_s = now_s + _LOOK_EVERY_S
        if reads_all:
            self._read_all_at_s = now_s + _READ_ALL_EVERY_S

    def _read(self, pid: int) -> None:
        """Note whose process it is; it may no longer be whose it was."""
        try:
            process = psutil.Process(pid)
            service = None if _has_ended(process) else self._service_of(process)
        except psutil.Error:
            self._found.pop(pid, None)
            return
        known = self._found.get(pid)
        if service is None:
            self._found.pop(pid, None)
        elif known is None or known.service != service or known.process != process:
            self._found[pid] = _Found(service, process)

    def _service_of(self, process: psutil.Process) -> str | None:
        with process.oneshot():
            name = process.name()
            try:
                command_line = " ".join(process.cmdline())
            except psutil.AccessDenied:
                command_line = ""
        return next((each.service for each in self._watched if each.matches(name, command_line)), None)

    def _samples(self, service: str) -> Iterable[MetricSampled]:
        uses = {}
        for pid, found in self._found.items():
            if found.service == service and (use := _measure(found)) is not None:
                uses[pid] = use
        labels = {"pid": str(next(iter(uses)))} if len(uses) == 1 else {}
        yield MetricSampled(service=service, metric="process.up", value=float(bool(uses)), labels=labels)
        if not uses:
            return
        rss = [use.rss for use in uses.values() if use.rss is not None]
        if len(rss) == len(uses):
            yield MetricSampled(
                service=service, metric="process.memory.usage", value=sum(rss), unit="By", labels=labels
            )
        shares = [use.cpu_share for use in uses.values() if use.cpu_share is not None]
        if shares and all(use.cpu_told for use in uses.values()):
            yield MetricSampled(service=service, metric="process.cpu.utilization", value=sum(shares), labels=labels)


def _has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return True


def _measure(found: _Found) -> _Use | None:
    """What a process uses now; None when it has ended meanwhile."""
    try:
        with found.process.oneshot():
            cpu_s, rss = _cpu_s(found.process), _rss(found.process)
    except psutil.NoSuchProcess:
        return None
    now_s = time.monotonic()
    share = None
    if cpu_s is not None and found.cpu_s is not None and now_s > found.cpu_at_s:
        share = max(0.0, cpu_s - found.cpu_s) / (now_s - found.cpu_at_s)
    found.cpu_s, found.cpu_at_s = cpu_s, now_s
    return _Use(rss=rss, cpu_share=share, cpu_told=cpu_s is not None)


def _cpu_s(process: psutil.Process) -> float | None:
    try:
        times = process.cpu_times()
    except psutil.AccessDenied:
        return None
    return times.user + times.system


def _rss(process: psutil.Process) -> int | None:
    try:
        return process.memory_info().rss
    except psutil.AccessDenied:
        return None
