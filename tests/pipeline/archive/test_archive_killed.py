"""An archivist that is killed with -9, on a real server with a real disk."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from pipeline.archive.folder import Archive
from pipeline.engine.redis_mesh import RedisMesh
from tests.pipeline.archive.archiving import (
    archiving_topology,
    files,
    history,
    janitor_of,
    on_the_mesh,
    outputs,
    told,
)
from tests.polling import eventually

pytestmark = pytest.mark.servers
GRAPH = archiving_topology()
STREAM = GRAPH.streams["signals"]


def sweep_until_killed(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "tests.pipeline.archive.sweeping_process", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "here\n"
        finally:
            process.kill()


@pytest.mark.parametrize("moment", ["before-commit", "before-trim"])
async def test_killed_between_rename_and_trim_nothing_is_lost_and_nothing_is_twice(
    redis_url: str, tmp_path: Path, moment: str
) -> None:
    namespace, archive = f"t{uuid4().hex[:8]}", Archive(tmp_path / "archive")
    mesh = RedisMesh.connect(redis_url, namespace)
    await mesh.publish(outputs(STREAM, range(20)))
    before = await on_the_mesh(mesh, STREAM)
    await asyncio.to_thread(sweep_until_killed, [redis_url, namespace, str(archive.folder), moment])
    left = files(archive)
    assert len(left) == (1 if moment == "before-commit" else 3)
    assert told(await on_the_mesh(mesh, STREAM)) == told(before)
    assert told(await history(mesh, archive, STREAM)) == told(before), "while both have it"

    janitor = janitor_of(mesh, archive, GRAPH)
    await eventually(janitor.sweep, saying="the killed one's lease has expired and the stream is trimmed")
    assert await on_the_mesh(mesh, STREAM) == []
    assert told(await history(mesh, archive, STREAM)) == told(before)
    assert left.items() <= files(archive).items(), "what was there is taken over as it was"
    assert len(files(archive)) == 3
    await mesh.close()
