"""Chaos, from the command line: ``python -m tests.chaos [--seed N] [--quick] [--minutes M] [--only ACT]``.

Progress goes to standard error, the last line with the figures to standard output.  Ends with code 1 when an invariant
broke; the seed repeats what was done, though not to the millisecond.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import time

from tests.chaos.playing import ACTS, play


def main() -> int:
    """Play, and say what came of it."""
    parser = argparse.ArgumentParser(prog="chaos", description="Kill, stall and starve it; nothing may be lost.")
    parser.add_argument("--seed", type=int, default=None, help="repeat a run (default: another one each time)")
    parser.add_argument("--quick", action="store_true", help="what CI runs: each act once and short")
    parser.add_argument("--minutes", type=float, default=11, help="begin no act after this long (default: 11)")
    parser.add_argument("--only", choices=[act.name for act in ACTS], action="append", help="this act only")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    asked = parser.parse_args()
    seed = asked.seed if asked.seed is not None else random.Random(time.time_ns()).randrange(1_000_000)
    logging.basicConfig(level=logging.ERROR)  # what the engine warns of is what is done to it
    report = asyncio.run(play(seed, quick=asked.quick, minutes=asked.minutes, only=asked.only, keep=asked.keep))
    sys.stdout.write(f"{report.last_line()}\n")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
