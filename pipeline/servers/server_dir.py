"""The directory of one embedded server: its locks, its sockets, and the engine its data is bound to."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.servers.accounts import Account, account_for, unprivileged_account
from pipeline.servers.errors import DataDirBoundError, ServerFailedError, StateDirUnusableError
from pipeline.servers.guard import answers, holder, lock

START_WITHIN_S = 330  # longer than the longest start a guard allows
# sun_path holds 108 bytes on Linux and 104 on macOS, the final zero included.
SOCKET_PATH_BYTES_MAX = 103
LONGEST_SOCKET_NAME = ".s.PGSQL.5432"
LOG_BYTES_MAX = 4_000_000


@dataclass(frozen=True)
class Running:
    """What a guard has published about its server."""

    engine: str
    version: str
    why: str
    socket: str
    pid: int
    guard_pid: int


@dataclass(frozen=True)
class ServerDir:
    """Where one server (``redis`` or ``postgres``) keeps everything of its own.

    Attributes:
        path: the directory; owned by whoever starts the server, traversable by the account the server runs as.
        account: that account; None when it is our own.
    """

    name: str
    path: Path
    account: Account | None

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def log(self) -> Path:
        return self.path / "server.log"

    @property
    def guard_log(self) -> Path:
        return self.path / "guard.log"

    @contextlib.contextmanager
    def starting(self) -> Iterator[int]:
        """Hold the start lock; yields its descriptor, to be inherited by helpers that outlive a killed starter."""
        descriptor = self._lock("start.lock", fcntl.LOCK_EX, START_WITHIN_S)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def use(self) -> int:
        """Become a user of the server until the descriptor is closed, by whatever."""
        return self._lock("users.lock", fcntl.LOCK_SH, START_WITHIN_S)

    def guard_pid(self) -> int | None:
        """The live guard's pid (0 in its first moment); None when no guard is alive."""
        return holder(self.path / "guard.lock")

    def server_pid(self) -> int | None:
        """The live server's pid, guarded or not; None when none is alive."""
        return holder(self.path / "server.lock")

    def running(self) -> Running | None:
        """What runs and answers here; None when nothing does, or not yet."""
        try:
            published = Running(**json.loads((self.path / "running.json").read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return published if answers(self.name, published.socket, str(self.data)) else None

    def bind_to(self, engine: str, version: str) -> None:
        """Record which engine writes the data, before it writes any."""
        beside = self.path / "engine.json.new"
        beside.write_text(json.dumps({"engine": engine, "version": version}))
        beside.replace(self.path / "engine.json")

    def bound_to(self) -> tuple[str, str] | None:
        """Engine and version that last wrote the data; None before there is any.

        Raises:
            DataDirBoundError: data without a record: nobody knows who can read it.
        """
        if not self.data.exists():
            return None
        try:
            record = json.loads((self.path / "engine.json").read_bytes())
            return str(record["engine"]), str(record["version"])
        except (FileNotFoundError, ValueError, KeyError) as unreadable:
            raise DataDirBoundError(
                f"{self.data} exists, but {self.path / 'engine.json'}, which names the server that wrote it, cannot be "
                f"read ({unreadable}). Restore both, or move {self.path} away to start afresh."
            ) from unreadable

    def shorten_logs(self) -> None:
        """Move long logs aside; one older file of each is kept."""
        for log in (self.log, self.guard_log):
            if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
                log.replace(log.with_suffix(".log.1"))

    def make_data_dir(self) -> None:
        """Make the data directory, owned by the server's account, if there is none."""
        if not self.data.exists():
            make_private(self.data, self.account)

    def make_socket_dir(self, runtime_dir: str | None) -> Path:
        """Make the directory for the server's sockets, private and short enough for a socket's address.

        It lies in the server directory where that is short; a long one gets a short name under the user's runtime
        directory or /tmp, and ``running.json`` tells where.
        """
        inside = self.path / "sockets"
        if _fits(inside):
            chosen = inside
        else:
            owner = os.geteuid() if self.account is None else self.account.uid
            digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
            name = f"aiops-{owner}-{digest}"
            runtime = Path(runtime_dir) if runtime_dir and self.account is None else None
            usable = runtime is not None and os.access(runtime, os.W_OK | os.X_OK) and _fits(runtime / name)
            chosen = (runtime if runtime and usable else Path("/tmp")) / name  # noqa: S108 - private, checked below
        make_private(chosen, self.account)
        return chosen

    def _lock(self, name: str, how: int, within_s: float) -> int:
        try:
            descriptor = lock(self.path / name, how, within_s=within_s)
        except OSError as refused:
            raise StateDirUnusableError(
                f"{self.path / name} cannot be locked ({refused.strerror}). Set AIOPS_STATE_DIR to a directory of this "
                f"user on a local file system."
            ) from refused
        if descriptor is None:
            raise ServerFailedError(
                f"Somebody has been starting or stopping the server in {self.path} for {within_s:.0f} s. "
                f"{self.guard_log} may tell why."
            )
        return descriptor


def existing_server_dir(state_dir: Path, name: str) -> ServerDir:
    """The server directory as it is, made or not."""
    path = state_dir / name
    return ServerDir(name, path, account_for(path / "data"))


def make_server_dir(state_dir: Path, name: str) -> ServerDir:
    """The server directory, made with its parents where they are missing.

    Raises:
        StateDirUnusableError: it cannot be made, or the account the server runs as cannot get there.
    """
    account = unprivileged_account()
    # Root's servers run as somebody else, who must be able to pass, not to look around.
    mode = 0o700 if account is None else 0o711
    path = state_dir / name
    missing = [step for step in (path, *path.parents) if not step.exists()]
    for step in reversed(missing):
        try:
            step.mkdir()
            step.chmod(mode)
        except FileExistsError:
            continue  # two starts at once: the other one made it
        except OSError as refused:
            raise StateDirUnusableError(
                f"{step} cannot be created ({refused.strerror}). "
                f"Set AIOPS_STATE_DIR to a directory where this user may write."
            ) from refused
    if not os.access(path, os.W_OK | os.X_OK):
        raise StateDirUnusableError(
            f"{path} is not writable for uid {os.geteuid()} (it belongs to uid {path.stat().st_uid}). "
            f"Set AIOPS_STATE_DIR to a directory of this user."
        )
    home = existing_server_dir(state_dir, name)
    if home.account is not None and not home.account.may_traverse(path):
        blocking = next(step for step in reversed((path, *path.parents)) if not home.account.may_traverse(step))
        raise StateDirUnusableError(
            f"Servers started by root run as '{home.account.name}', who cannot pass {blocking} "
            f"(mode {stat.S_IMODE(blocking.stat().st_mode):04o}) on the way to {path}. "
            f"Set AIOPS_STATE_DIR to a directory everybody can traverse, such as /var/lib/aiops."
        )
    return home


def make_private(directory: Path, account: Account | None) -> None:
    """Make a directory for its owner only, or check that the one which is there is.

    Raises:
        StateDirUnusableError: something else is there, or it belongs to somebody else.
    """
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    found = directory.lstat()  # not stat: in /tmp a stranger may have put a link there
    ours = {os.geteuid()} if account is None else {os.geteuid(), account.uid}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in ours:
        raise StateDirUnusableError(
            f"{directory} is needed as a private directory, and something of uid {found.st_uid} is there already. "
            f"Remove it, or choose another AIOPS_STATE_DIR."
        )
    directory.chmod(0o700)
    if account is not None:
        account.give(directory)


def _fits(directory: Path) -> bool:
    text = str(directory)
    # PostgreSQL reads a list of directories: a comma or a quote would split the name.
    return len(os.fsencode(directory / LONGEST_SOCKET_NAME)) <= SOCKET_PATH_BYTES_MAX and not set(text) & set(",\"'\n")
