"""Documents that survive a crash: JSON files that are replaced as a whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO, Any


def store(path: Path, document: object, *, mode: int = 0o600) -> None:
    """Replace the file's content; a reader, or a crash, sees the old or the new document, never a mixture."""
    draft = path.with_name(f".{path.name}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def load(path: Path, default: Any) -> Any:
    """The stored document, or the default if there has never been one."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return default


def append(path: Path, document: object) -> None:
    """Add one line of JSON at the end; it is on the disk when this returns."""
    with path.open("ab+") as file:
        torn = file.tell() > 0 and _last_byte(file) != b"\n"  # a crash cut the last line off: do not write on in it
        file.write((b"\n" if torn else b"") + json.dumps(document).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _last_byte(file: IO[bytes]) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)
