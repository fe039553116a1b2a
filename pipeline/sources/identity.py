"""The only place where chance makes an id: for events that come in without an identity of their own."""

from __future__ import annotations

import os
import time
from uuid import UUID

_VERSION_7 = 0x7 << 76
_VARIANT_RFC_9562 = 0b10 << 62


def new_id() -> UUID:
    """A random UUID version 7: later ids sort after earlier ones (to the millisecond), which keeps indexes compact."""
    unix_ms = time.time_ns() // 1_000_000
    random_bits = int.from_bytes(os.urandom(10), "big")
    high, low = random_bits >> 68, random_bits & ((1 << 62) - 1)
    return UUID(int=unix_ms << 80 | _VERSION_7 | high << 64 | _VARIANT_RFC_9562 | low)
