"""How often Python looks for cycles among the objects of a process that handles events by the thousand."""

from __future__ import annotations

import gc

_NEW_OBJECTS = 50_000


def look_for_cycles_rarely() -> None:
    """Let more objects come before the next look; may be called again.

    A batch of events is thousands of new objects that are all alive and in no cycle.  By default Python looks through
    them after every 700, and through everything there is again and again: measured, that takes as long as decoding.
    """
    gc.set_threshold(_NEW_OBJECTS, 20, 20)
