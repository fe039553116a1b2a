"""Makes a PostgreSQL data directory in one piece, and proves that pgvector runs on this processor.

Most pgvector builds are compiled for the machine that built them (AVX2, FMA and BMI2 on x86-64, SVE on aarch64).  On an
older processor the first distance kills the backend with an illegal instruction, and with it every connection of the
whole server.  So the distances are computed once, in a cluster that nobody uses, before the server is started.
"""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import shutil
import signal
import tempfile
from pathlib import Path

from pipeline.servers.engines import Engine
from pipeline.servers.errors import CpuUnsupportedError, DataDirBoundError, ServerFailedError, StateDirUnusableError
from pipeline.servers.programs import ProgramRunner
from pipeline.servers.server_dir import ServerDir

USER = "aiops"
DATABASE = "aiops"
UNFINISHED_PREFIX = "unfinished-"
# Needed flags, for the message only: what counts is what really executes.
CPU_FLAGS = {"x86_64": ("avx2", "fma", "bmi2"), "aarch64": ("sve",)}
# Long enough for the vectorised loops, and through every family of functions that the compiler vectorised. In the
# database `postgres`, which we never use; template1 stays as it was, so new databases start without the extension.
PROBE = """
CREATE EXTENSION vector;
CREATE TABLE probe (v vector(67));
INSERT INTO probe SELECT array_fill(n + 0.5, ARRAY[67])::real[]::vector FROM generate_series(1, 50) AS n;
SELECT sum(v <-> l2_normalize(v)), sum(v <=> v), sum(v <#> v), sum(v <+> v), avg(v) FROM probe;
SELECT sum(v::halfvec <-> l2_normalize(v::halfvec)), sum(v::halfvec <=> v::halfvec) FROM probe;
SELECT sum(binary_quantize(v) <~> binary_quantize(v)), sum(v::sparsevec <-> v::sparsevec) FROM probe;
CREATE INDEX ON probe USING hnsw (v vector_cosine_ops);
DROP TABLE probe;
SELECT 'vectors' || ' ' || 'work';
"""
PROBE_PASSED = "vectors work"


def make(home: ServerDir, engine: Engine, runner: ProgramRunner) -> None:
    """Make the data directory, proven and with our database in it; all or nothing, also across kill -9 and power loss.

    A killed ``initdb`` leaves a directory that looks finished and never comes up, so it works beside, and a rename
    makes the result the data.

    Raises:
        CpuUnsupportedError: pgvector does not run on this processor.
        ServerFailedError: a step failed; the message has its output.
        StateDirUnusableError: this process runs under a uid that has no account.
    """
    beside = Path(tempfile.mkdtemp(prefix=UNFINISHED_PREFIX, dir=home.path))
    try:
        cluster = _initialised(home, engine, runner, beside)
        _run_sql(engine, cluster, f"CREATE DATABASE {DATABASE};\n", runner)
        _prove(home, engine, cluster, runner)
        # What the single-user backends wrote, too, is on disk before the rename is.
        _expect_success(runner, [engine.program.with_name("initdb"), "--sync-only", "-D", cluster])
        secret = beside / "password"
        os.chown(secret, os.geteuid(), os.getegid())
        secret.replace(home.path / "password")
        home.bind_to(engine.family, engine.version)
        cluster.rename(home.data)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def prove_elsewhere(home: ServerDir, engine: Engine, runner: ProgramRunner) -> None:
    """Prove a new build, or a new processor, on a cluster that is thrown away: a crash must not hit the real one.

    Raises:
        CpuUnsupportedError: pgvector does not run on this processor.
    """
    beside = Path(tempfile.mkdtemp(prefix=UNFINISHED_PREFIX, dir=home.path))
    try:
        _prove(home, engine, _initialised(home, engine, runner, beside), runner)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def has_been_proven(home: ServerDir, engine: Engine) -> bool:
    """Whether this build of pgvector has passed on this processor."""
    try:
        return _proof_file(home).read_text() == _identity(engine)
    except FileNotFoundError:
        return False


def remove_unfinished(home: ServerDir) -> None:
    """Remove what killed starts left; the caller holds the start lock."""
    for leftover in home.path.glob(f"{UNFINISHED_PREFIX}*"):
        shutil.rmtree(leftover)


def password(home: ServerDir) -> str:
    """The superuser's password.

    Raises:
        DataDirBoundError: it is lost, so the data cannot be opened.
    """
    try:
        return (home.path / "password").read_text()
    except OSError as lost:
        raise DataDirBoundError(
            f"{lost.filename} cannot be read ({lost.strerror}), so the data beside it cannot be opened. "
            f"Restore the file, or move {home.path} away to start afresh."
        ) from lost


def _initialised(home: ServerDir, engine: Engine, runner: ProgramRunner, beside: Path) -> Path:
    secret = beside / "password"
    secret.touch(0o600)
    secret.write_text(secrets.token_urlsafe(24))
    if home.account is not None:
        home.account.give(beside)
        home.account.give(secret)
    cluster = beside / "data"
    # PostgreSQL 17 brought a locale that needs no operating system; before it, C is the only one that is everywhere.
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if engine.version_numbers >= (17,) else []
    initdb = engine.program.with_name("initdb")
    _expect_success(
        runner,
        [
            *(initdb, "-D", cluster, "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}"),
            *("--encoding=UTF8", "--locale=C", *locale, "--no-instructions", "--no-sync"),
        ],
    )
    return cluster


def _prove(home: ServerDir, engine: Engine, cluster: Path, runner: ProgramRunner) -> None:
    said = _run_sql(engine, cluster, PROBE, runner)
    if PROBE_PASSED not in said:
        raise ServerFailedError(f"pgvector of {engine} does not work: {said.strip()}. Set DATABASE_URL instead.")
    _proof_file(home).write_text(_identity(engine))


def _run_sql(engine: Engine, cluster: Path, sql: str, runner: ProgramRunner) -> str:
    """Run statements in a single-user backend, each on one line; everything it said."""
    result = runner.run([engine.program, "--single", "-D", cluster, "postgres"], text_in=sql)
    if result.returncode == -signal.SIGILL:
        raise CpuUnsupportedError(
            f"pgvector of {engine} dies of an illegal instruction on this processor{_missing_flags()}. "
            f"Set DATABASE_URL to a PostgreSQL with pgvector that runs elsewhere, or install a build for this processor."
        )
    said = result.stdout + result.stderr
    if result.returncode != 0 or "ERROR:" in said or "FATAL:" in said:
        raise ServerFailedError(f"PostgreSQL failed while it made its data (code {result.returncode}):\n{said.strip()}")
    return said


def _expect_success(runner: ProgramRunner, command: list[str | Path]) -> None:
    result = runner.run(command)
    if result.returncode == 0:
        return
    if "could not look up effective user ID" in result.stderr:
        raise StateDirUnusableError(
            f"PostgreSQL needs an account for the user it runs as, and uid {os.geteuid()} has none. "
            f"Add one to /etc/passwd, start as another user, or set DATABASE_URL."
        )
    raise ServerFailedError(
        f"{Path(command[0]).name} failed with code {result.returncode}: {(result.stderr or result.stdout).strip()}"
    )


def _proof_file(home: ServerDir) -> Path:
    return home.path / "proven-on-this-cpu"


def _identity(engine: Engine) -> str:
    digest = hashlib.sha256(engine.cpu_bound.read_bytes())
    digest.update(_cpu_description().encode())
    return digest.hexdigest()


def _cpu_description() -> str:
    """Model and flags of the first processor, as the kernel tells them."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    return "\n".join(
        line for line in first if line.split(":")[0].strip() in {"model name", "flags", "Features", "CPU part"}
    )


def _missing_flags() -> str:
    present = set(_cpu_description().split())
    missing = [flag for flag in CPU_FLAGS.get(platform.machine(), ()) if flag not in present]
    return f" (it lacks {', '.join(missing)})" if missing else ""
