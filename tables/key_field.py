"""Which field of a payload tells entries apart."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Protocol

from topology.errors import PoisonedEventError


class Happened(Protocol):
    """An event, as far as a table looks at it."""

    @property
    def at_us(self) -> int:
        """When it happened, in microseconds since the epoch."""

    @property
    def payload(self) -> Any:
        """What happened; has the field the table is keyed by."""


class KeyField:
    """Reads the key of an event.

    Args:
        table: the table's name, for messages.
        path: the field of the payload, as a dotted path.
    """

    __slots__ = ("_path", "_read", "_table")

    def __init__(self, table: str, path: str) -> None:
        self._table, self._path = table, path
        self._read = attrgetter(path)

    def of(self, event: Happened) -> str:
        """The key of an event.

        Raises:
            PoisonedEventError: it has none, or none that is text.
        """
        try:
            key = self._read(event.payload)
        except AttributeError:
            key = None
        if not isinstance(key, str):
            kind = type(event.payload).__name__
            msg = (
                f"table {self._table!r} is keyed by {self._path!r}, but this {kind} has {key!r} there, expected text; "
                f"key the table by a field of {kind}, or pass the key to add()"
            )
            raise PoisonedEventError(msg)
        return key
