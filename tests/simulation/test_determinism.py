"""A seed is the whole story: any run can be repeated by its number, and time is virtual."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.simulation.counting_story import CountingStory
from tests.simulation.deployment import Run
from tests.simulation.loop_story import LoopStory
from tests.simulation.virtual_loop import Process, StuckError, virtual_loop

ROOT = Path(__file__).parents[2]
_TELL = """
import logging; logging.disable(logging.CRITICAL)
from tests.simulation.test_determinism import told
print(told())
"""


def told() -> str:
    """What befell some runs, and what came of them."""
    runs = [Run(seed, CountingStory(seed)).play() for seed in range(12)] + [Run(1, LoopStory(1)).play()]
    streams = "signals", "numbered", "late", "dead-letters", "actions"
    return repr([(run.weather.trace, [r.value for s in streams for r in run.mesh.records(s)]) for run in runs])


def test_a_seed_repeats_to_the_byte_in_another_process_with_another_hash_seed() -> None:
    other = subprocess.run(
        [sys.executable, "-c", _TELL],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == told()


def test_virtual_time_passes_only_when_everybody_waits() -> None:
    loop = virtual_loop(Random(1))

    async def nap() -> float:
        began_s = loop.time()
        await asyncio.wait_for(asyncio.sleep(3600), 7200)
        return loop.time() - began_s

    assert 3600 <= loop.run_until_complete(nap()) < 3601


def test_who_waits_for_nothing_is_told_so() -> None:
    with pytest.raises(StuckError, match="waits for nothing"):
        virtual_loop(Random(1)).run_until_complete(asyncio.Event().wait())


def test_a_stalled_process_does_nothing_until_it_goes_on_and_a_killed_one_never_again() -> None:
    loop = virtual_loop(Random(1))
    done: list[str] = []

    async def work(process: Process) -> None:
        while True:
            await asyncio.sleep(1.0)
            process.check_alive()
            done.append(process.name)

    async def play() -> None:
        stalled, killed = Process("stalled"), Process("killed")
        stalled.start(work(stalled))
        killed.start(work(killed))
        await asyncio.sleep(2.5)
        assert (done.count("stalled"), done.count("killed")) == (2, 2)
        stalled.is_stalled = True
        killed.kill()
        await asyncio.sleep(10)
        assert len(done) == 4
        loop.resume(stalled)
        await asyncio.sleep(1.5)
        assert (done.count("stalled"), done.count("killed")) == (4, 2)
        stalled.kill()
        await asyncio.sleep(0.1)

    loop.run_until_complete(play())
