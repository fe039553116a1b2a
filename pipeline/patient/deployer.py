"""The configuration deployer: numbered versions, a pointer to the current one, and the way back.

Everything survives a restart of the host: a bad version that was current is current again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Any

from pipeline.patient import durable
from pipeline.patient.announcements import Change
from pipeline.patient.logfile import timestamp
from pipeline.patient.loopback import Document, RequestRefusedError


class Deployer:
    """The configuration of one unit.

    Args:
        ledger: where versions and their history are kept.
        target: the file the unit reads.
        first: the content of version 1, deployed if there has been nothing before.
        reload: tells the running unit to read its configuration; answers whether it now has that version.
        announce: makes a change known.
    """

    def __init__(
        self,
        unit: str,
        *,
        ledger: Path,
        target: Path,
        first: Document,
        reload: Callable[[int], bool],
        announce: Callable[[Change], None],
    ) -> None:
        self.unit = unit
        self.target = target
        self._ledger = ledger
        self._reload = reload
        self._announce = announce
        self._lock = RLock()
        kept: dict[str, Any] = durable.load(ledger, {"versions": [], "history": []})
        self._versions: list[Document] = kept["versions"]
        self._history: list[int] = kept["history"]
        if not self._versions:
            self._history.append(self._add(first, "first deployment"))
        self._put_in_place()

    @property
    def version(self) -> int:
        """The current version."""
        return self._history[-1]

    @property
    def content(self) -> Document:
        """The content of the current version."""
        content: Document = self._versions[self.version - 1]["content"]
        return content

    def described(self) -> Document:
        """As the control API shows it: no contents, which may be confidential."""
        with self._lock:
            return {
                "unit": self.unit,
                "version": self.version,
                "previous_versions": self._history[-2::-1],
                "versions": [
                    {name: value for name, value in version.items() if name != "content"} for version in self._versions
                ],
            }

    def version_before(self) -> int:
        """Where a rollback leads.

        Raises:
            RequestRefusedError: 409, nothing was deployed before the current version.
        """
        with self._lock:
            if len(self._history) == 1:
                raise RequestRefusedError(
                    409, f"version {self.version} of {self.unit} is the first, there is nothing to go back to"
                )
            return self._history[-2]

    def roll_out(self, content: Document, summary: str) -> Document:
        """Make a new version and deploy it."""
        with self._lock:
            return self.go_to(self._add(content, summary), summary)

    def go_to(self, version: int, summary: str = "") -> Document:
        """Deploy a version that exists; nothing happens if it is the current one.

        Returns:
            The version, how to undo this, and whether the running unit has taken it over.

        Raises:
            RequestRefusedError: 404, there is no such version.
        """
        with self._lock:
            if not 1 <= version <= len(self._versions):
                raise RequestRefusedError(
                    404, f"{self.unit} has no version {version}, expected 1 to {len(self._versions)}"
                )
            before = self.version
            if version in self._history:
                del self._history[self._history.index(version) + 1 :]
                summary = summary or f"back to version {version}"
            else:
                self._history.append(version)
            self._put_in_place()
            loaded = self._reload(version)
            if version != before:
                self._announce(Change(self.unit, summary or f"again version {version}", version, before))
            return {"unit": self.unit, "version": version, "undo": {"version": before}, "loaded": loaded}

    def _add(self, content: Document, summary: str) -> int:
        number = len(self._versions) + 1
        self._versions.append({"version": number, "made_at": timestamp(), "summary": summary, "content": content})
        return number

    def _put_in_place(self) -> None:
        # History first: after a crash in between, the next start puts in place what the history says.
        durable.store(self._ledger, {"versions": self._versions, "history": self._history})
        durable.store(self.target, {"version": self.version, "content": self.content})
