"""What an examination found: one line for a person, one object for a program."""

from __future__ import annotations

from typing import Literal, NamedTuple

Status = Literal["ok", "warning", "problem"]


class Found(NamedTuple):
    """One thing that was looked at.

    Attributes:
        status: a ``problem`` keeps something from working; a ``warning`` works until it matters.
        what: what was found.
        remedy: what to do; empty when all is well.
    """

    subject: str
    status: Status
    what: str
    remedy: str = ""
