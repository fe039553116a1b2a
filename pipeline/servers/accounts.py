"""Under which account a server runs, and which directories that account can reach.

PostgreSQL refuses to run as root, so root's servers run as an account that exists already.  No account is ever made
and no directory that is not ours has its mode changed: a start must leave the machine as it was.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.servers.errors import StateDirUnusableError

# In this order: the first one is made for the purpose, the second exists everywhere.
UNPRIVILEGED_ACCOUNTS = ("postgres", "nobody")
ROOT_STATE_DIR = Path("/var/lib/aiops")


@dataclass(frozen=True)
class Account:
    """An account that root's servers are dropped to."""

    name: str
    uid: int
    gid: int

    def give(self, path: Path) -> None:
        """Make the account the owner of a path of ours.

        Raises:
            StateDirUnusableError: this root may not change owners (a restricted container, a network file system).
        """
        try:
            os.chown(path, self.uid, self.gid)
        except OSError as refused:
            raise StateDirUnusableError(
                f"{path} cannot be given to the account '{self.name}' ({refused.strerror}), and PostgreSQL refuses to "
                f"run as root. Start as an ordinary user, or set REDIS_URL and DATABASE_URL to servers of your own."
            ) from refused

    def may_traverse(self, directory: Path) -> bool:
        """Whether every directory down to and including this one can be passed."""
        return all(
            self._has(stat.S_IXUSR, stat.S_IXGRP, stat.S_IXOTH, step) for step in (directory, *directory.parents)
        )

    def may_read(self, path: Path) -> bool:
        """Whether the file or directory itself can be read; its parents are ``may_traverse``'s matter."""
        return self._has(stat.S_IRUSR, stat.S_IRGRP, stat.S_IROTH, path)

    def _has(self, owner_bit: int, group_bit: int, others_bit: int, path: Path) -> bool:
        found = path.stat()
        if found.st_uid == self.uid:
            return bool(found.st_mode & owner_bit)
        if found.st_gid == self.gid:
            return bool(found.st_mode & group_bit)
        return bool(found.st_mode & others_bit)


def unprivileged_account() -> Account | None:
    """The account that root's servers run as; None for an ordinary user, whose servers run as that user.

    Raises:
        StateDirUnusableError: root, and no account to drop to.
    """
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED_ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise StateDirUnusableError(
        f"Running as root, and none of the accounts {', '.join(UNPRIVILEGED_ACCOUNTS)} exists to run servers as. "
        f"Start as an ordinary user, or set REDIS_URL and DATABASE_URL to servers of your own."
    )


def account_for(data_dir: Path) -> Account | None:
    """The account for a data directory: the one that owns it once it exists, so that a new account changes nothing.

    Raises:
        StateDirUnusableError: the directory belongs to somebody else than this user.
    """
    account = unprivileged_account()
    if not data_dir.exists():
        return account
    owner = data_dir.stat().st_uid
    if account is None:
        if owner != os.geteuid():
            raise StateDirUnusableError(
                f"{data_dir} belongs to uid {owner}, this process runs as uid {os.geteuid()}. "
                f"Start as the owner, or set AIOPS_STATE_DIR to a directory of your own."
            )
        return None
    if owner in (0, account.uid):
        return account
    try:
        entry = pwd.getpwuid(owner)
    except KeyError:
        raise StateDirUnusableError(
            f"{data_dir} belongs to uid {owner}, which has no account here. "
            f"Give it to '{account.name}' (chown -R {account.name} {data_dir}), or choose another AIOPS_STATE_DIR."
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """Where servers keep their data unless told otherwise.

    ``AIOPS_STATE_DIR``, else ``$XDG_STATE_HOME/aiops``, else ``~/.local/state/aiops``.  Root gets ``/var/lib/aiops``
    where the account its servers run as cannot reach that, or where the home is not root's own (``sudo``).
    """
    chosen = environ.get("AIOPS_STATE_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    home = Path(environ.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir)
    state_home = Path(environ.get("XDG_STATE_HOME") or "")
    # The XDG specification asks to ignore relative paths.
    candidate = (state_home if state_home.is_absolute() else home / ".local" / "state") / "aiops"
    account = unprivileged_account()
    if account is None:
        return candidate
    existing = nearest_existing(candidate)
    is_roots_own = existing.stat().st_uid == 0
    return candidate if is_roots_own and account.may_traverse(existing) else ROOT_STATE_DIR


def nearest_existing(path: Path) -> Path:
    """The path itself, or the closest of its parents that exists."""
    return next(step for step in (path, *path.parents) if step.exists())
