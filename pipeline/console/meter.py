"""How far a long reading has come: one line on stderr that is written anew, or now and then one where nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Self, TextIO

from pipeline.engine.record import Record

_EVERY_RECORDS = 256
_ON_A_TERMINAL_S = 0.2
_ELSEWHERE_S = 10.0
_SHARE_TO_JUDGE_BY = 0.05


class Meter:
    """Counts records of a span of time, and says so from time to time.

    Args:
        doing: what is done, such as ``recording``.
        begin_ms: where the span begins; None for where the first record is.
        end_ms: where it ends.
        total: how many records there are, where that is known; else how far it has come is told by their time.
        clock: seconds.
    """

    def __init__(
        self,
        doing: str,
        begin_ms: int | None,
        end_ms: int,
        *,
        total: int | None = None,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.records = 0
        self._doing = doing
        self._begin_ms = begin_ms
        self._end_ms = end_ms
        self._total = total
        self._out = out or sys.stderr
        self._on_terminal = self._out.isatty()
        self._clock = clock
        self._began_s = self._said_s = clock()

    def count(self, record: Record) -> None:
        """One more record was read."""
        if self._begin_ms is None:
            self._begin_ms = record.offset.ms
        self.records += 1
        if self.records % _EVERY_RECORDS == 0:
            self._perhaps_say(record)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the line to whatever comes next."""
        if self._on_terminal:
            self._out.write("\r\x1b[K")
            self._out.flush()

    def _perhaps_say(self, record: Record) -> None:
        now_s = self._clock()
        if now_s - self._said_s < (_ON_A_TERMINAL_S if self._on_terminal else _ELSEWHERE_S):
            return
        self._said_s = now_s
        line = self._line(record.offset.ms, now_s - self._began_s)
        self._out.write(f"\r\x1b[K{line}" if self._on_terminal else f"{line}\n")
        self._out.flush()

    def _line(self, at_ms: int, took_s: float) -> str:
        begin_ms = self._begin_ms or 0
        share = self.records / self._total if self._total else (at_ms - begin_ms) / max(1, self._end_ms - begin_ms)
        share = min(1.0, max(0.0, share))
        left = f" · {took_s / share - took_s:,.0f} s left" if share >= _SHARE_TO_JUDGE_BY else ""
        moment = f"{datetime.fromtimestamp(at_ms / 1000, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
        rate = self.records / max(took_s, 1e-9)
        return f"{self._doing}: {share:.0%} · {self.records:,} events, {rate:,.0f}/s · at {moment}{left}"
