"""How far event time has come in one partition."""

from __future__ import annotations

from datetime import timedelta

from topology.errors import ConfigurationError
from topology.moments import span_us


class Watermark:
    """The instant before which nothing more is waited for.

    It is the latest event time seen, less the allowed lateness, and it never goes back.  A partition without events
    advances by ticks, which are events of the stream too, so that a replay sees the same watermark at the same place.
    It believes the times it is given: an event from the future makes what follows late, so refuse those at the door.

    Args:
        lateness: how much older than the latest event another one may be and still be on time.
    """

    __slots__ = ("_at_us", "_lateness_us")

    def __init__(self, lateness: timedelta = timedelta(0)) -> None:
        if lateness < timedelta(0):
            msg = f"found a lateness of {lateness}, expected zero or more"
            raise ConfigurationError(msg)
        self._lateness_us = span_us(lateness)
        self._at_us: int | None = None

    @property
    def at_us(self) -> int | None:
        """The watermark in microseconds since the epoch; None before the first event."""
        return self._at_us

    def observe(self, at_us: int) -> int:
        """Take note of an event's time and answer the watermark after it."""
        reached_us = at_us - self._lateness_us
        if self._at_us is None or reached_us > self._at_us:
            self._at_us = reached_us
        return self._at_us

    def tick(self, now_us: int) -> int:
        """Take note that time has come to ``now_us`` though no event says so; answer the watermark after it."""
        return self.observe(now_us)

    def snapshot(self) -> bytes:
        """The watermark as text; empty before the first event."""
        return b"" if self._at_us is None else b"%d" % self._at_us

    def restore(self, data: bytes) -> None:
        """Go on from a snapshot; the lateness is the one given here, not the one of then."""
        self._at_us = int(data) if data else None
