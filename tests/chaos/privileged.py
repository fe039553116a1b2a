"""What only root can do to a machine: a small disk, and a network that is cut without anybody being told."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_DISK_MB = 48


class NotAllowedError(Exception):
    """This machine does not allow it; the message says what."""


async def _do(*command: str) -> None:
    if os.geteuid() != 0:
        msg = f"{command[0]} needs root"
        raise NotAllowedError(msg)
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
    except OSError as missing:
        raise NotAllowedError(f"{command[0]}: {missing.strerror}") from missing
    _, said = await process.communicate()
    if process.returncode:
        raise NotAllowedError(f"{' '.join(command)}: {said.decode(errors='replace').strip()}")


@asynccontextmanager
async def small_disk(folder: Path) -> AsyncIterator[Path]:
    """A file system that is soon full, mounted there.

    Raises:
        NotAllowedError: mounting is not.
    """
    await asyncio.to_thread(folder.mkdir)
    await _do("mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        await _do("umount", "--lazy", str(folder))


def fill(folder: Path) -> Path:
    """Write a file until the disk is full; delete it to make room again."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2
    return filler


class Namespace:
    """A network namespace that reaches this host by one cable.

    Attributes:
        host: this host's address at the cable.
        within: the command that runs another one in the namespace.
    """

    def __init__(self, number: int) -> None:
        self._name = f"aiops-chaos-{number}"
        self._cable = f"chaos{number % 10_000_000}"
        subnet = f"10.{211 + number % 16}.{number // 16 % 256}"
        self.host = f"{subnet}.1"
        self._inside = f"{subnet}.2"
        self.within = ("ip", "netns", "exec", self._name)

    async def make(self) -> None:
        """Make it, and plug the cable in; raises NotAllowedError where that is not allowed."""
        peer = f"{self._cable}p"
        await _do("ip", "netns", "add", self._name)
        await _do("ip", "link", "add", self._cable, "type", "veth", "peer", "name", peer, "netns", self._name)
        await _do("ip", "address", "add", f"{self.host}/24", "dev", self._cable)
        await _do("ip", "link", "set", self._cable, "up")
        await _do(*self.within, "ip", "address", "add", f"{self._inside}/24", "dev", peer)
        await _do(*self.within, "ip", "link", "set", peer, "up")

    async def cut(self) -> None:
        """Pull the cable."""
        await _do("ip", "link", "set", self._cable, "down")

    async def heal(self) -> None:
        """Plug it in again."""
        await _do("ip", "link", "set", self._cable, "up")

    async def remove(self) -> None:
        """Remove what was made, half of it too."""
        for command in (("ip", "link", "delete", self._cable), ("ip", "netns", "delete", self._name)):
            try:
                await _do(*command)
            except NotAllowedError:
                continue


@asynccontextmanager
async def namespace() -> AsyncIterator[Namespace]:
    """A namespace of this process's own; raises NotAllowedError where there can be none."""
    made = Namespace(os.getpid())
    try:
        await made.make()
        yield made
    finally:
        await made.remove()
