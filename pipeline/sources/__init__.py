"""Where events come from: this host, log files, probes, the HTTP door.

A source turns what it hears into events and hands them to ``publish``; it neither retries nor restarts itself, the
engine's supervisor does.
"""

from __future__ import annotations
