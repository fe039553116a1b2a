"""What ``aiops doctor`` looks at besides servers: Python, our packages, the settings, the state directory, the machine."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil
from pydantic import AliasChoices, SecretStr

from pipeline.commands.found import Found
from pipeline.ownership import DISTRIBUTION, HOME, PACKAGES, explain_foreign, foreign_packages, owners_of
from pipeline.security.masking import mask_text
from pipeline.servers.accounts import nearest_existing, unprivileged_account
from pipeline.servers.errors import StateDirUnusableError
from pipeline.settings import Settings, misspelt_variables
from pipeline.sources.journal import JOURNAL
from pipeline.sources.journal_files import look_into

PYTHON_MIN = (3, 11)
FREE_BYTES_MIN = 200_000_000
"""Less, and servers stop taking writes before long."""
FREE_BYTES_GOOD = 2_000_000_000
MEMORY_BYTES_GOOD = 700_000_000
"""What the program and its embedded servers take together, with some room."""


def installation() -> Iterator[Found]:
    """Python, who owns our import names, and what we depend on."""
    running = f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}"
    if sys.version_info >= PYTHON_MIN:
        yield Found("python", "ok", running)
    else:
        yield Found("python", "problem", running, f"expected {'.'.join(map(str, PYTHON_MIN))} or later; use that")
    yield _packages()
    yield _dependencies()


def machine() -> Iterator[Found]:
    """Processor and memory."""
    yield Found("processor", "ok", f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}")
    free = psutil.virtual_memory().available
    if free >= MEMORY_BYTES_GOOD:
        yield Found("memory", "ok", f"{_size(free)} available")
    else:
        remedy = f"expected {_size(MEMORY_BYTES_GOOD)} for the program and its embedded servers; stop something else"
        yield Found("memory", "warning", f"{_size(free)} available", remedy)


def settings_in_force(chosen: Settings) -> Iterator[Found]:
    """Each setting, what it is and where that came from; secrets are masked."""
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        variables = alias.choices if isinstance(alias, AliasChoices) else [f"AIOPS_{name.upper()}"]
        known = " or ".join(map(str, variables))
        origin = f"from {known}" if name in chosen.model_fields_set else f"default; {known}"
        yield Found(f"setting {name}", "ok", f"{_shown(getattr(chosen, name))}  ({origin})")
    for variable in misspelt_variables():
        remedy = "it sets nothing; correct its name to one of those above, or unset it"
        yield Found(f"variable {variable}", "warning", "is not one of the settings", remedy)


def state_directory(chosen: Settings) -> Found:
    """Where embedded servers and sources keep what must survive a restart."""
    path = chosen.state_dir
    existing = nearest_existing(path)
    free = shutil.disk_usage(existing).free
    what = f"{path}{'' if path.exists() else ' (not made yet)'}, {_size(free)} free"
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Found(
            "state directory", "problem", what, f"{existing} is not writable; set AIOPS_STATE_DIR to one that is"
        )
    if refusal := _refusal_of_server_account(existing, chosen):
        return Found("state directory", "problem", what, refusal)
    if free < FREE_BYTES_MIN:
        remedy = f"expected {_size(FREE_BYTES_MIN)} at least; make room, or set AIOPS_STATE_DIR to another disk"
        return Found("state directory", "problem", what, remedy)
    if free < FREE_BYTES_GOOD:
        return Found("state directory", "warning", what, f"expected {_size(FREE_BYTES_GOOD)}; make room before long")
    return Found("state directory", "ok", what)


def journal(chosen: Settings) -> Iterator[Found]:
    """What sources keep for when the mesh is back, and what they could not keep."""
    folder = chosen.state_dir / JOURNAL
    try:
        held = look_into(folder)
    except OSError as error:
        yield Found("journal", "problem", f"{folder} cannot be read: {error.strerror or error}", "ask as its owner")
        return
    waiting = held.waiting
    if waiting.events:
        since = datetime.fromtimestamp(waiting.since_ms / 1000).astimezone()
        sources = ", ".join(waiting.sources)
        what = f"{waiting.events:,} events of {sources} wait for the mesh since {since:%Y-%m-%d %H:%M:%S}, {_size(waiting.size)}"
        yield Found("journal", "warning", what, "`aiops run` brings them into the mesh when it is there")
    else:
        yield Found("journal", "ok", f"nothing waits; up to {chosen.journal_mb} MB in {folder}")
    lost = [f"{events:,} events of {source} could not be kept" for source, events in sorted(held.dropped.items())]
    lost += [f"{held.damaged} lines are damaged"] if held.damaged else []
    lost += [f"{held.unpublishable} events in unpublishable.jsonl, which no stream takes"] if held.unpublishable else []
    if lost:
        remedy = f"a larger AIOPS_JOURNAL_MB keeps more; when you have taken note, remove the files from {folder}"
        yield Found("journal losses", "warning", "; ".join(lost), remedy)


def _refusal_of_server_account(directory: Path, chosen: Settings) -> str:
    """Why the account that root's embedded servers run as could not work there; empty when it can, or need not."""
    if chosen.redis_url is not None and chosen.database_url is not None:
        return ""
    try:
        account = unprivileged_account()
    except StateDirUnusableError as error:
        return str(error)
    if account is None or account.may_traverse(directory):
        return ""
    return f"root's servers run as '{account.name}', who cannot pass {directory}; set AIOPS_STATE_DIR to /var/lib/aiops"


def _packages() -> Found:
    names = ", ".join(PACKAGES)
    foreign = foreign_packages()
    if foreign:
        return Found("packages", "problem", explain_foreign(foreign))
    # Folders that two distributions were installed into pass every test of paths.
    rivals = {name: sorted(owners_of(name) - {DISTRIBUTION}) for name in PACKAGES}
    shared = {name: owners for name, owners in rivals.items() if owners}
    if shared:
        found = "; ".join(f"`{name}` also belongs to {', '.join(owners)}" for name, owners in shared.items())
        return Found("packages", "problem", found, "make a fresh environment for this program alone")
    return Found("packages", "ok", f"{names} are ours alone, in {HOME}")


def _dependencies() -> Found:
    try:
        declared = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        what = f"{DISTRIBUTION} is not installed; running from {HOME}"
        return Found("dependencies", "warning", what, "run `make setup`, so that versions are checked")
    names = [_name(requirement) for requirement in declared if "extra ==" not in requirement]
    missing = [name for name in names if not _is_installed(name)]
    if missing:
        return Found("dependencies", "problem", f"{', '.join(missing)} not installed", "run `make setup` again")
    return Found("dependencies", "ok", f"{DISTRIBUTION} {version(DISTRIBUTION)} and the {len(names)} it needs")


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _shown(value: object) -> str:
    if value is None or value == ():
        return "not set"
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        return mask_text(secret) if "://" in secret else "set, not shown"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return mask_text(str(value)) if not isinstance(value, Path) else str(value)


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
