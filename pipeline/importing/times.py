"""Moments as other programs write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import ROUND_FLOOR, Decimal

from pipeline.sources.formats.body import MalformedBodyError, show
from topology.moments import to_us

UNITS_US = {"s": Decimal(1_000_000), "ms": Decimal(1_000), "us": Decimal(1), "ns": Decimal("0.001")}
_NUMBER = re.compile(r"-?\d{1,20}(?:\.\d{0,12})?", re.ASCII)
_SECONDS_BELOW = 10**11
"""The year 5138, and in milliseconds 1973: larger numbers count something smaller than seconds."""
_STEP = 1_000


@dataclass(frozen=True, slots=True)
class Times:
    """How a file writes its times.

    Attributes:
        form: ``s``, ``ms``, ``us`` or ``ns`` for a number since 1970, or a pattern of ``strptime``.  Empty for ISO 8601, or
            a number whose size says what it counts.
        zone: of times that name none.  Of an hour that comes twice, the first is taken.
    """

    form: str = ""
    zone: tzinfo = UTC

    def read(self, text: str) -> int:
        """Microseconds since the epoch; finer digits are cut.

        Raises:
            MalformedBodyError: the text is no such time.
        """
        text = text.strip()
        if self.form in UNITS_US or (not self.form and _NUMBER.fullmatch(text)):
            return self._count(text)
        try:
            moment = datetime.strptime(text, self.form) if self.form else datetime.fromisoformat(text)  # noqa: DTZ007
            return to_us(moment if moment.tzinfo is not None else moment.replace(tzinfo=self.zone))
        except (OverflowError, ValueError) as error:
            raise self._refused(text) from error

    def _count(self, text: str) -> int:
        if not _NUMBER.fullmatch(text):
            raise self._refused(text)
        number = Decimal(text)
        unit = self.form or _unit_of(number)
        return int((number * UNITS_US[unit]).to_integral_value(ROUND_FLOOR))

    def _refused(self, text: str) -> MalformedBodyError:
        if self.form in UNITS_US:
            expected = f"a number ({self.form} since 1970)"
        elif self.form:
            expected = f"a time of the form {self.form}"
        else:
            expected = "a time such as 2026-01-31T09:30:00Z or 1769851800 (see --time-format)"
        return MalformedBodyError(show(text) if text else "nothing", expected)


def _unit_of(number: Decimal) -> str:
    limit = _SECONDS_BELOW
    for unit in UNITS_US:
        if abs(number) < limit:
            return unit
        limit *= _STEP
    return "ns"
