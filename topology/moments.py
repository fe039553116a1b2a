"""Time as the pipeline counts it: whole microseconds since the epoch, UTC.

Integers, because windows must touch exactly and a replay must cut at the same instants; ``datetime`` is for people and
for the wire.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

SECOND_US = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_us(moment: datetime) -> int:
    """Microseconds since the epoch of an aware ``datetime``, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def from_us(at_us: int) -> datetime:
    """The UTC ``datetime`` of microseconds since the epoch."""
    return _EPOCH + timedelta(microseconds=at_us)


def span_us(duration: timedelta) -> int:
    """A duration in whole microseconds."""
    return duration // _MICROSECOND


@lru_cache(maxsize=256)
def text_of_us(at_us: int) -> str:
    """What :func:`moment_text` writes of ``from_us(at_us)``; windows end together, so most are asked for often."""
    return moment_text(from_us(at_us))


def moment_text(moment: datetime) -> str:
    """An aware ``datetime`` as it is written in events: in UTC, with six digits of a second or none."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat()}Z"
