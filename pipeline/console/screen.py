"""The console of ``aiops run``: live on a terminal, line by line anywhere else.

On a terminal nothing that matters scrolls away: what is said now on top, the stories below, each one block that grows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TextIO
from uuid import UUID

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.console.pulse import Pulse
from pipeline.console.story import Story
from pipeline.console.telling import facts, headline

_STYLES = {
    "seen": "red", "changed": "yellow", "concluded": "cyan", "trying": "blue", "undoing": "blue", "failed": "red",
    "refused": "yellow", "rejected": "red", "verified": "green", "learned": "magenta", "resolved": "green",
}  # fmt: skip


class Screen(Protocol):
    """Where the loop is shown."""

    def show(self, stories: Sequence[Story], pulse: Pulse, status: str) -> None:
        """Show how things stand."""

    def say(self, line: str) -> None:
        """Say something that is not part of a story, such as that a server is ready."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class PlainScreen:
    """Every fact once, as a line, when it becomes known; what a log or a pipe wants."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._told: dict[UUID, set[str]] = {}

    def show(self, stories: Sequence[Story], pulse: Pulse, status: str) -> None:
        for story in stories:
            if story.incident not in self._told:
                self.say(headline(story))
            told = self._told.setdefault(story.incident, set())
            for fact in facts(story):
                if fact not in told:
                    told.add(fact)
                    self.say(f"  {fact}")

    def say(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()

    def close(self) -> None:
        """Nothing to leave."""


class LiveScreen:
    """Redrawn in place, four times a second at most."""

    def __init__(self, console: Console, stories_max: int = 4) -> None:
        self._console = console
        self._stories_max = stories_max
        self._live: Live | None = None

    def show(self, stories: Sequence[Story], pulse: Pulse, status: str) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=False)
            self._live.start()
        self._live.update(Group(*self._parts(stories, pulse, status)), refresh=True)

    def say(self, line: str) -> None:
        self._console.print(Text(line, style="dim"))

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _parts(self, stories: Sequence[Story], pulse: Pulse, status: str) -> Iterable[RenderableType]:
        yield Text(status, style="bold")
        yield _services(pulse)
        shown = sorted(stories, key=lambda story: (story.resolved_at is None, story.heard_at))[-self._stories_max :]
        hidden = len(stories) - len(shown)
        if hidden:
            yield Text(f"… and {hidden} earlier; `aiops incidents list` has them all", style="dim")
        for story in shown:
            yield _block(story)
        if not stories:
            yield Text("nothing is wrong so far", style="dim")


def screen_for(out: TextIO) -> Screen:
    """The live screen on a terminal, the plain one anywhere else."""
    console = Console(file=out)
    return LiveScreen(console) if console.is_terminal else PlainScreen(out)


def _services(pulse: Pulse) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for name, service in pulse.services.items():
        style = "red" if service.health and not service.health.startswith("ok") else "green"
        values = "  ".join(f"{topic} {value}" for topic, value in service.values.items())
        errors = f"error lines: {service.errors}" if service.errors else ""
        table.add_row(
            Text(name), Text(service.health, style=style), Text(values, style="dim"), Text(errors, style="dim")
        )
    return table


def _block(story: Story) -> RenderableType:
    text = Text()
    text.append(headline(story) + "\n", style="bold green" if story.resolved_at else "bold red")
    for fact in facts(story):
        label = fact.split(maxsplit=1)[0]
        text.append(f"  {fact[:11]}", style=_STYLES.get(label, ""))
        text.append(fact[11:] + "\n")
    return text
