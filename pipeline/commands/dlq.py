"""``aiops dlq``: what could not be processed, and what becomes of it."""

from __future__ import annotations

import asyncio
import os
import pwd
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import orjson

from pipeline.commands.output import counted, fit, print_json
from pipeline.commands.reach import reached_mesh
from pipeline.engine.dead_letters import DeadLetter, DeadLetters, Decision, drop, release, replay
from pipeline.engine.mesh import Mesh
from pipeline.loading import load_topology
from pipeline.settings import settings
from topology.errors import AiopsError, UsageError
from topology.graph import Topology
from topology.payloads.operation import LettersTaken, ReplayEnded

ANSWER_WITHIN_S = 10.0
_AGAIN_MAX = 5
_AGAIN_AFTER_S = 1.0
_ID_SHOWN = 8

_Decide = Callable[[DeadLetters, Topology, Sequence[DeadLetter]], Decision]
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_TOPOLOGY = click.option(
    "--topology", type=click.Path(path_type=Path), help="Whose stages; the shipped topology's by default."
)


class RefusedError(AiopsError):
    """The stage did not do it, however often it was asked."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters: all that fit everything that is given."""

    stage: str | None = None
    key: str | None = None
    ids: tuple[str, ...] = ()

    def of(self, known: DeadLetters) -> list[DeadLetter]:
        """The open letters chosen, oldest first.

        Raises:
            UsageError: an id stands for no open letter, or for several.
        """
        letters = [
            letter
            for letter in known.letters
            if self.stage in (None, letter.payload.stage) and self.key in (None, letter.payload.key)
        ]
        if not self.ids:
            return letters
        chosen = {_only(letters, beginning).at for beginning in self.ids}
        return [letter for letter in letters if letter.at in chosen]


def _choosing(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--stage", help="Only letters of this stage (or sink)."),
        click.option("--key", help="Only letters of this key."),
    ):
        command = option(command)
    return command


@click.group()
def dlq() -> None:
    """Dead letters: events that could not be processed, and those behind them that wait for it.

    A stage parks the key of such an event (unless its topology says otherwise), so that order holds: what comes later of
    the key becomes a letter too. Replay lets the stage process the letters, after it was mended; what never can be
    processed has to be dropped.
    """


@dlq.command("list")
@_choosing
@_JSON
def list_letters(stage: str | None, key: str | None, as_json: bool) -> None:
    """List the letters nobody has dealt with, by stage and key."""
    known = asyncio.run(_known())
    letters = Choice(stage, key).of(known)
    groups = _groups(letters)
    if as_json:
        print_json([_group_as_json(group) for group in groups])
        return
    if not letters:
        click.echo("no dead letters")
    now = time.time()
    for group in groups:
        click.echo(fit(_line(group, now)))


@dlq.command()
@click.argument("letter")
@_JSON
def show(letter: str, as_json: bool) -> None:
    """Show LETTER (its id, or the beginning of it), whole."""
    found = _only(asyncio.run(_known()).letters, letter)
    data = _as_json(found)
    if as_json:
        print_json(data)
        return
    event = data.pop("event")
    for name, value in data.items():
        click.echo(f"{name:<10} {value}")
    click.echo(orjson.dumps(event, option=orjson.OPT_INDENT_2).decode())


@dlq.command("replay")
@_choosing
@click.option("--id", "ids", multiple=True, help="Only this letter (its id, or the beginning of it); may be repeated.")
@click.option("--all", "everything", is_flag=True, help="All letters of all stages.")
@_TOPOLOGY
@_JSON
def replay_letters(
    stage: str | None, key: str | None, ids: tuple[str, ...], everything: bool, topology: Path | None, as_json: bool
) -> None:
    """Let the stage process letters again, in their order, and release their keys.

    Events that come meanwhile wait behind them. What fails again is a dead letter again.
    """
    choice = _choice(stage, key, ids, everything)
    now, by = datetime.now(UTC), _user()
    graph = load_topology(topology)

    def decide(known: DeadLetters, topology: Topology, letters: Sequence[DeadLetter]) -> Decision:
        if not letters and stage:
            nothing_of = _stage(topology, stage)
            if key:
                return release(known, topology, nothing_of, key, now=now, by=by)
        if not ids:
            letters = _that_can_be_replayed(letters, topology)
        return replay(known, topology, letters, now=now, by=by)

    _report(asyncio.run(_carry_out(graph, choice, decide)), "replayed", as_json=as_json)


@dlq.command("drop")
@_choosing
@click.option("--id", "ids", multiple=True, help="Only this letter (its id, or the beginning of it); may be repeated.")
@click.option("--all", "everything", is_flag=True, help="All letters of all stages.")
@_TOPOLOGY
@_JSON
def drop_letters(
    stage: str | None, key: str | None, ids: tuple[str, ...], everything: bool, topology: Path | None, as_json: bool
) -> None:
    """Mark letters as done without processing them; a key of which none is left goes on."""
    choice = _choice(stage, key, ids, everything)
    now, by = datetime.now(UTC), _user()

    def decide(known: DeadLetters, topology: Topology, letters: Sequence[DeadLetter]) -> Decision:
        return drop(known, topology, letters, now=now, by=by)

    _report(asyncio.run(_carry_out(load_topology(topology), choice, decide)), "dropped", as_json=as_json)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a decision.

    Attributes:
        unheard: requests nobody has answered yet.
    """

    letters: Sequence[DeadLetter]
    replayed: int
    again: int
    unheard: int


async def _known() -> DeadLetters:
    known = DeadLetters()
    async with reached_mesh(settings()) as mesh:
        await known.follow(mesh)
    return known


async def _carry_out(topology: Topology, choice: Choice, decide: _Decide) -> Outcome:
    """Ask, and wait for the answers; a stage that refuses because it knows more is asked again with what it knows."""
    async with reached_mesh(settings()) as mesh:
        known = DeadLetters()
        await known.follow(mesh)
        asked: list[UUID] = []
        letters: dict[UUID, DeadLetter] = {}
        chosen = choice.of(known)
        for _ in range(_AGAIN_MAX):
            decision = decide(known, topology, chosen)
            letters.update((letter.id, letter) for letter in decision.letters)
            asked += decision.ids
            await mesh.publish(decision.requests)
            await _until_answered(mesh, known, decision)
            if not any(_refusal(known, each) for each in decision.ids):
                return _outcome(known, list(letters.values()), asked)
            await known.follow(mesh, wait_s=_AGAIN_AFTER_S)
            chosen = [letter for letter in chosen if letter in known.letters] if choice.ids else choice.of(known)
        msg = (
            f"the stage refused {_AGAIN_MAX} times: {_refusal(known, asked[-1])}; somebody else may be at it, try again"
        )
        raise RefusedError(msg)


async def _until_answered(mesh: Mesh, known: DeadLetters, decision: Decision) -> None:
    until_s = time.monotonic() + ANSWER_WITHIN_S
    while not all(_is_answered(known, each) for each in decision.ids):
        remaining_s = until_s - time.monotonic()
        if remaining_s <= 0:
            return
        await known.follow(mesh, wait_s=min(remaining_s, 1.0))


def _is_answered(known: DeadLetters, request: UUID) -> bool:
    notes = known.notes.get(request, ())
    taken = next((note for note in notes if isinstance(note, LettersTaken)), None)
    if taken is None:
        return False
    return bool(taken.refused) or not taken.replays or any(isinstance(note, ReplayEnded) for note in notes)


def _refusal(known: DeadLetters, request: UUID) -> str:
    return next((n.refused for n in known.notes.get(request, ()) if isinstance(n, LettersTaken) and n.refused), "")


def _outcome(known: DeadLetters, letters: Sequence[DeadLetter], asked: Sequence[UUID]) -> Outcome:
    ended = [note for each in asked for note in known.notes.get(each, ()) if isinstance(note, ReplayEnded)]
    return Outcome(
        letters,
        replayed=sum(note.replayed for note in ended),
        again=sum(note.again for note in ended),
        unheard=sum(not _is_answered(known, each) for each in asked),
    )


def _report(outcome: Outcome, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "letters": [letter.id for letter in outcome.letters],
                "replayed": outcome.replayed,
                "again": outcome.again,
                "unheard": outcome.unheard,
            }
        )
        return
    count = outcome.replayed if what == "replayed" and not outcome.unheard else len(outcome.letters)
    click.echo(f"{what}: {counted(count, 'letter')}")
    if what == "dropped" and outcome.replayed:
        click.echo(f"{counted(outcome.replayed, 'letter')} that came meanwhile: replayed")
    if outcome.again:
        click.echo(f"{counted(outcome.again, 'letter')} failed again: `aiops dlq list` says why")
    if outcome.unheard:
        click.echo(f"no worker has answered within {ANSWER_WITHIN_S:g} s; it is done when one runs the stage", err=True)


def _choice(stage: str | None, key: str | None, ids: tuple[str, ...], everything: bool) -> Choice:
    if not (stage or key or ids or everything):
        msg = "found nothing that says which letters, expected --stage, --key, --id, or --all"
        raise UsageError(msg)
    return Choice(stage, key, ids)


def _that_can_be_replayed(letters: Sequence[DeadLetter], topology: Topology) -> list[DeadLetter]:
    stages = {stage.id for stage in topology.stages}
    fit_ones = [letter for letter in letters if not letter.payload.window and letter.payload.stage in stages]
    if len(fit_ones) < len(letters):
        left = counted(len(letters) - len(fit_ones), "letter")
        click.echo(f"aiops: {left} of windows or of what is no stage can only be dropped, by --id", err=True)
    return fit_ones


def _stage(topology: Topology, stage_id: str) -> Any:
    try:
        return topology.stage(stage_id)
    except KeyError:
        known = ", ".join(stage.id for stage in topology.stages)
        msg = f"found stage {stage_id!r}, expected one of {known}"
        raise UsageError(msg) from None


def _only(letters: Iterable[DeadLetter], beginning: str) -> DeadLetter:
    found = [letter for letter in letters if str(letter.id).startswith(beginning)]
    if len(found) == 1:
        return found[0]
    if found:
        msg = f"found several: {', '.join(str(letter.id) for letter in found)}; give more of the id than {beginning!r}"
    else:
        msg = f"found no open dead letter whose id begins with {beginning!r}; `aiops dlq list` lists them"
    raise UsageError(msg)


def _groups(letters: Iterable[DeadLetter]) -> list[list[DeadLetter]]:
    groups: dict[tuple[str, int, str, bool], list[DeadLetter]] = {}
    for letter in letters:
        groups.setdefault((*letter.owner, letter.payload.key, letter.payload.window), []).append(letter)
    return list(groups.values())


def _line(group: Sequence[DeadLetter], now_s: float) -> str:
    first = group[0].payload
    age = timedelta(seconds=max(0, int(now_s - group[0].at.ms / 1000)))
    what = f"{counted(len(group), 'letter')}, since {age}"
    return f"{str(group[0].id)[:_ID_SHOWN]}  {first.stage:<16} {first.key:<16} {what}  {first.error}: {first.reason}"


def _group_as_json(group: Sequence[DeadLetter]) -> dict[str, Any]:
    first = group[0].payload
    return {
        "stage": first.stage,
        "partition": first.partition,
        "key": first.key,
        "window": first.window,
        "count": len(group),
        "since": _at(group[0]),
        "error": first.error,
        "reason": first.reason,
        "ids": [letter.id for letter in group],
    }


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    try:
        event = orjson.loads(letter.payload.event)
    except orjson.JSONDecodeError:
        event = letter.payload.event
    return {"id": letter.id, "since": _at(letter), **letter.payload.model_dump(mode="json"), "event": event}


def _at(letter: DeadLetter) -> datetime:
    return datetime.fromtimestamp(letter.at.ms / 1000, UTC)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
