"""A door with a journal in a process of its own, to be killed.

    python -m tests.outages.journal_process REDIS_URL FOLDER

Says where the door is.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from pipeline.engine.publisher import Publisher
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.sources.door import Door
from pipeline.sources.journal import Journal, Keeping
from pipeline.sources.journaled import JournaledPublisher
from tests.contracts.counting import topology


async def main(url: str, folder: str) -> None:
    mesh = RedisMesh.connect(url, "t")
    journal = Journal(Path(folder), bytes_max=50_000_000, age_max_s=3600)
    sources = JournaledPublisher(Publisher(mesh, topology().streams["signals"]), journal)
    door = Door()
    sys.stdout.write(door.listen() + "\n")
    sys.stdout.flush()
    await asyncio.gather(door.run(sources.of("door", Keeping("refuse"))), sources.run())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
