"""Which stages ``--stages`` asks for."""

from __future__ import annotations

from topology.errors import UsageError
from topology.graph import Topology


def chosen_stages(text: str | None, topology: Topology) -> tuple[str, ...]:
    """The ids that were asked for, separated by commas; all of the topology when nobody asked.

    Raises:
        UsageError: one of them is no stage, or there is none; such a worker would run and do nothing.
    """
    known = tuple(stage.id for stage in topology.stages)
    if text is None:
        return known
    asked = tuple(name.strip() for name in text.split(","))
    if not set(asked) <= set(known):
        msg = f"found --stages {text!r}, expected some of {', '.join(known)} (comma-separated)"
        raise UsageError(msg)
    return asked
