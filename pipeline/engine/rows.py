"""What a stage's partition remembers, as the rows a mesh keeps: the agent's tables, and a few rows of the engine's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from pipeline.engine.record import Offset, Place, Restored
from topology.graph import Stage
from topology.state import BoundedState, BoundState

_ENGINE = "~"
"""Rows of the engine's own begin with it; a table's name cannot."""
_FOLLOWING = "~~"
"""Rows of stages that do not begin a task begin with it, and with their name: one task has one set of rows."""
EVICTED_ROW = "~evicted"
"""Says how many keys tables had to drop, for those who look on."""


class Rows:
    """Restores tables and engine rows, and collects what changed; a table's rows are named ``<table>/<row>``.

    Args:
        tables: new and empty ones.

    Attributes:
        changed: rows since the last :meth:`take`, None for deleted ones.
    """

    def __init__(self, tables: Mapping[str, BoundState]) -> None:
        self.changed: dict[str, bytes | None] = {}
        self._tables = tables
        self._own: dict[str, bytes | None] = {}
        self._bounded = {name: table for name, table in tables.items() if isinstance(table, BoundedState)}
        self._evicted = 0
        self._evicted_before: Mapping[str, Mapping[str, int]] = {}

    def restore(self, part: Mapping[str, bytes], *, last: bool) -> None:
        """Take over stored rows, some or all of them; before anything else is done."""
        rows: dict[str, dict[str, bytes]] = {name: {} for name in self._tables}
        for row, value in part.items():
            if row.startswith(_ENGINE):
                self._own[row] = value
                continue
            name, _, rest = row.partition("/")
            if name in rows:
                rows[name][rest] = value
        for name, table in self._tables.items():
            table.restore(rows[name], last=last)
        self._evicted_before = evicted_of(self._own.get(EVICTED_ROW))

    def get(self, name: str) -> bytes | None:
        """A row of the engine's own."""
        return self._own.get(_ENGINE + name)

    def put(self, name: str, value: bytes | None) -> None:
        """Set a row of the engine's own, or delete it with None; it is a change only when it differs."""
        row = _ENGINE + name
        if value != self._own.get(row):
            self._own[row] = self.changed[row] = value

    def names(self, prefix: str) -> set[str]:
        """What follows the prefix in the names of the engine's own rows."""
        prefix = _ENGINE + prefix
        return {row.removeprefix(prefix) for row in self._own if row.startswith(prefix)}

    def collect(self) -> None:
        """Take over what the tables changed; raises what a value raises that cannot be stored."""
        for name, table in self._tables.items():
            for row, value in table.changes().items():
                self.changed[f"{name}/{row}"] = value

    def were_touched(self) -> bool:
        """Whether the tables changed since the last :meth:`collect`; that change is lost, so then restore."""
        try:
            return any(bool(table.changes()) or bool(table.take_late()) for table in self._tables.values())
        except Exception:  # noqa: BLE001 - changed to something that cannot be stored
            return True

    def take(self) -> dict[str, bytes | None]:
        """Everything that changed."""
        evicted = sum(sum(table.evicted.values()) for table in self._bounded.values())
        if evicted != self._evicted:
            self._evicted = evicted
            self._tell_evicted()
        changed, self.changed = self.changed, {}
        return changed

    def _tell_evicted(self) -> None:
        """Add up what was dropped since the stage began; a sum of its input, so no crash and no batch changes it."""
        sums: dict[str, dict[str, int]] = {name: dict(bounds) for name, bounds in self._evicted_before.items()}
        for name, table in self._bounded.items():
            of_table = sums.setdefault(name, {})
            for bound, count in table.evicted.items():
                of_table[bound] = of_table.get(bound, 0) + count
        told = {name: {bound: n for bound, n in bounds.items() if n} for name, bounds in sums.items()}
        told = {name: bounds for name, bounds in told.items() if bounds}
        self.put(EVICTED_ROW.removeprefix(_ENGINE), orjson.dumps(told, option=orjson.OPT_SORT_KEYS))


def evicted_of(row: bytes | None) -> Mapping[str, Mapping[str, int]]:
    """How many keys were dropped, by table and by the bound that made them go, from the row that says so."""
    found: dict[str, dict[str, int]] = {} if row is None else orjson.loads(row)
    return found


class Remembered:
    """What a task begins with: a new agent, its tables as far as they are restored, offsets and answers.

    Args:
        restored: with all rows, or with the first of them; the others are put in with :meth:`restore`.

    Attributes:
        next: the same of the stage that follows in the same task.
    """

    def __init__(self, stage: Stage, restored: Restored) -> None:
        self.agent = stage.new_agent()
        self.rows = Rows(self.agent.tables)
        self.offsets: Mapping[Place, Offset] = restored.offsets
        self.answers: Mapping[str, Any] = restored.answers
        self._stage = stage
        self.next = None if stage.next is None else Remembered(stage.next, Restored(more=1))
        self.restore(restored.state, last=not restored.more)

    def restore(self, part: Mapping[str, bytes], *, last: bool) -> None:
        """Take over stored rows, some or all of them."""
        alone = self.next is None and self._stage.begins_task
        self.rows.restore(part if alone else rows_of_stage(self._stage, part), last=last)
        if self.next is not None:
            self.next.restore(part, last=last)


def following(stage: str, row: str) -> str:
    """The name that a row of a stage which does not begin a task has among the rows of its task."""
    return f"{_FOLLOWING}{stage}/{row}"


def rows_of_stage(stage: Stage, of_task: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """A stage's rows among those of its task, by their own names."""
    if stage.begins_task:
        return {row: value for row, value in of_task.items() if not row.startswith(_FOLLOWING)}
    mine = following(stage.id, "")
    return {row.removeprefix(mine): value for row, value in of_task.items() if row.startswith(mine)}
