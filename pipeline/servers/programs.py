"""Runs the servers' own tools (``initdb``, ``--version``, single-user mode) to their end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.servers.accounts import Account

TOOL_WITHIN_S = 300
ENVIRONMENT_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def server_environment() -> dict[str, str]:
    """What a server may know of our environment.

    Never the locale: one that is named but not generated makes ``initdb`` fail.
    """
    kept = {name: os.environ[name] for name in ENVIRONMENT_KEPT if name in os.environ}
    return {**kept, "LC_ALL": "C", "LANG": "C"}


@dataclass(frozen=True)
class ProgramRunner:
    """Runs a program in a clean environment, as the server's account, and collects what it says.

    Attributes:
        account: whom to run as; None for ourselves.
        held_lock: a lock's descriptor that the program inherits.  When we are killed half-way the program goes on for
            a moment; the next start then waits for it instead of meeting it.
    """

    account: Account | None
    held_lock: int | None = None

    def run(self, command: Sequence[str | Path], *, text_in: str = "") -> subprocess.CompletedProcess[str]:
        """Run to the end.  A program that cannot be executed at all gives code 127 and the reason as its error text."""
        account = self.account
        try:
            return subprocess.run(
                [str(part) for part in command],
                input=text_in,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=TOOL_WITHIN_S,
                env=server_environment(),
                cwd="/",
                umask=0o077,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                pass_fds=() if self.held_lock is None else (self.held_lock,),
            )
        except OSError as failed:
            return subprocess.CompletedProcess(list(command), 127, "", str(failed))
