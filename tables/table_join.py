"""Events joined with what is known of their key: one event type keeps a table, another looks things up in it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Generic, TypeVar, overload

from pydantic import TypeAdapter

from tables.key_field import Happened, KeyField
from tables.keyed import KeyedState
from tables.table import KEYS_MAX, bound_state_of, refuse_limit_below_one
from topology.errors import ConfigurationError
from topology.moments import span_us

Fed = TypeVar("Fed")


class TableJoin(KeyedState[Fed]):
    """What is known of each key in one partition; made by ``JoinedTable.bind``.

    An event finds what came before it on the streams of its stage, so a replay finds the same.
    """

    def __init__(self, declared: JoinedTable[Fed]) -> None:
        retain_us = None if declared.retain is None else span_us(declared.retain)
        super().__init__(declared.name, TypeAdapter(declared.fed_by), declared.keys_max, retain_us)
        self._fed_by = declared.fed_by
        self._fed_key = KeyField(declared.name, declared.key)
        self._looked_up_key = KeyField(declared.name, declared.looked_up_by)
        self._keeps_times = retain_us is not None

    def take(self, event: Happened) -> bool:
        """Remember the event if it is of the type that feeds the table; answers whether it is.

        Raises:
            PoisonedEventError: the event feeds the table and has no key.
        """
        if not isinstance(event.payload, self._fed_by):
            return False
        self.put(self._fed_key.of(event), event.payload, event.at_us if self._keeps_times else None)
        return True

    def match(self, event: Happened) -> Fed | None:
        """What was taken last for the event's key; None when there is nothing.

        Raises:
            PoisonedEventError: the event has no key to look up.
        """
        return self.get(self._looked_up_key.of(event))


class JoinedTable(Generic[Fed]):
    """Declare a stream-table join as a class attribute of an agent; the instance answers its ``TableJoin``.

    The agent consumes both event types.  What came last on the stream holds, not what happened last: the table follows
    its feed as it comes.

    Args:
        name: unique within the agent; names the rows for ever.
        fed_by: the payload type that is remembered, the latest one of each key.
        key: its field to tell entries apart by, as a dotted path.
        looked_up_by: the field of other events that is looked up; ``key`` unless given.
        retain: how long an entry is kept after it happened; for ever by default.
        keys_max: how many keys a partition may hold; beyond it the least recently taken is dropped.

    Example:
        >>> from types import SimpleNamespace as Happening
        >>> from topology.payloads import ChangeApplied, LogWritten
        >>> changes = JoinedTable("changes", fed_by=ChangeApplied, key="service").bind()
        >>> changes.take(Happening(at_us=0, payload=ChangeApplied(service="ledger", change="v7")))
        True
        >>> changes.match(Happening(at_us=5, payload=LogWritten(service="ledger", message="down"))).change
        'v7'
    """

    def __init__(
        self,
        name: str,
        *,
        fed_by: type[Fed],
        key: str = "service",
        looked_up_by: str | None = None,
        retain: timedelta | None = None,
        keys_max: int = KEYS_MAX,
    ) -> None:
        refuse_limit_below_one(name, keys_max)
        if retain is not None and retain < timedelta(0):
            msg = f"{name!r} has a retention of {retain}; expected zero or more"
            raise ConfigurationError(msg)
        self.name = name
        self.fed_by = fed_by
        self.key = key
        self.looked_up_by = key if looked_up_by is None else looked_up_by
        self.retain = retain
        self.keys_max = keys_max

    def bind(self) -> TableJoin[Fed]:
        """A new, empty running state."""
        return TableJoin(self)

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> JoinedTable[Fed]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> TableJoin[Fed]: ...
    def __get__(self, instance: object | None, owner: type[Any]) -> JoinedTable[Fed] | TableJoin[Fed]:
        """The declaration on the class, the running state on an instance."""
        if instance is None:
            return self
        found: TableJoin[Fed] = bound_state_of(instance, self.name)
        return found
