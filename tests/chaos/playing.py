"""A whole run: which acts, in which order, for how long."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.chaos import acts
from tests.chaos.privileged import NotAllowedError
from tests.chaos.report import Report

ACTS = acts.ACTS


async def play(
    seed: int, *, quick: bool = False, minutes: float = 11, only: Sequence[str] | None = None, keep: bool = False
) -> Report:
    """Play every act once, and then again in another order while there is time; never raises for what breaks.

    Args:
        quick: only the acts that are short, once.
        minutes: no act that has been played is begun after this long.
        only: names of acts.
        keep: leave the folder with the logs.
    """
    chance = random.Random(seed)
    report = Report(seed)
    chosen = [act for act in (acts.QUICK if quick else ACTS) if not only or act.name in only]
    folder = _new_folder(Path(tempfile.gettempdir()) / f"aiops-chaos-{os.getpid()}")
    number = 0
    try:
        while not report.failed and (number == 0 or (not quick and report.seconds < minutes * 60)):
            chance.shuffle(chosen)
            for act in chosen:
                if number >= len(chosen) and report.seconds > minutes * 60:
                    break
                number += 1
                await _play(act, report, chance, _new_folder(folder / f"{number}-{act.name}"), quick=quick)
        report.must_have_happened(*(fault for act in chosen for fault in act.faults))
    finally:
        if keep:
            report.say(f"the logs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return report


def _new_folder(folder: Path) -> Path:
    """A folder that the account of root's servers can pass."""
    folder.mkdir()
    folder.chmod(0o711)
    return folder


async def _play(act: acts.Act, report: Report, chance: random.Random, folder: Path, *, quick: bool) -> None:
    report.say(f"-- {act.name}")
    try:
        await act.play(report, chance, folder, quick)
    except NotAllowedError as reason:
        report.skipped |= dict.fromkeys(act.faults, str(reason))
        report.say(f"SKIPPED {act.name}: {reason}")
    except Exception as error:  # noqa: BLE001 - the rest of the run is still worth its time, and what broke is told
        where = traceback.extract_tb(error.__traceback__)[-1]
        report.broken(f"{act.name}: {type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})")
