"""What keeps secrets secret and orders authentic."""

from __future__ import annotations
