"""What ``aiops top`` puts on a terminal: a line per stage or partition, then the workers and what troubles them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.console.overview import SINK, Overview, PartitionLine, StageLine

_STYLES = {"runs": "green", "restoring": "cyan", "stalled": "yellow", "halted": "red", "unowned": "red"}
_COLUMNS = ("in/s", "out/s", "lag", "late", "evicted", "dead")


def stages_table(overview: Overview) -> RenderableType:
    """One line per stage."""
    table = _table("stage", "partitions")
    for stage in overview.stages:
        name = " + ".join((_name(stage.stage), *stage.following))
        table.add_row(name, str(len(stage.partitions)), *_numbers(stage), _states(stage))
    return Group(table, *_workers(overview))


def partitions_table(overview: Overview, lines_max: int | None = None) -> RenderableType:
    """One line per partition, those that need somebody first, then by lag.

    Args:
        lines_max: how many there is room for; of the others only their number is told.
    """
    lines = [line for stage in overview.stages for line in stage.partitions]
    lines.sort(key=lambda line: (line.state == "runs", -line.lag, line.stage, line.partition))
    shown = lines[:lines_max]
    table = _table("stage", "partition")
    for line in shown:
        state = Text(line.owner or "", style="dim")
        if line.state != "runs":
            state = Text(f"{line.state} {line.why}".strip(), style=_STYLES[line.state])
        table.add_row(_name(line.stage), str(line.partition), *_numbers(line), state)
    more = [Text(f"… and {len(lines) - len(shown)} more", style="dim")] if len(shown) < len(lines) else []
    return Group(table, *more, *_workers(overview))


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(names[0], no_wrap=True)
    for name in (*names[1:], *_COLUMNS):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    return table


def _name(stage: str) -> str:
    return f"sink {stage.removeprefix(SINK)}" if stage.startswith(SINK) else stage


def _numbers(line: StageLine | PartitionLine) -> Sequence[Text]:
    return (
        Text(_rate(line.in_per_s)),
        Text(_rate(line.out_per_s)),
        Text(f"{line.lag:,}", style="yellow" if line.lag else ""),
        Text(f"{line.late:,}", style="yellow" if line.late else ""),
        _evicted(line),
        Text(f"{line.dead_letters:,}", style="red" if line.dead_letters else ""),
    )


def _evicted(line: StageLine | PartitionLine) -> Text:
    bounds = [each for of_table in line.evicted.values() for each in of_table.items()]
    # What was kept for as long as it should be is no loss; what there was no room for is.
    lost = any(bound != "retain" for bound, _ in bounds)
    return Text(f"{sum(count for _, count in bounds):,}", style="yellow" if lost else "")


def _rate(per_s: float | None) -> str:
    if per_s is None:
        return "-"
    return f"{per_s:,.0f}" if per_s == 0 or per_s >= 10 else f"{per_s:.1f}"


def _states(stage: StageLine) -> Text:
    text = Text()
    for state in ("halted", "stalled", "unowned", "restoring"):
        if count := stage.states.get(state, 0):
            text.append(f"{count} {state}  ", style=_STYLES[state])
    if stage.owners:
        text.append(", ".join(f"{worker}: {count}" for worker, count in stage.owners.items()), style="dim")
    return text


def _workers(overview: Overview) -> Iterable[RenderableType]:
    yield Text()
    if not overview.workers:
        yield Text("no worker is alive", style="red")
    for line in overview.workers:
        yield Text(f"{line.worker}: {line.partitions} partitions", style="dim")
        for trouble in line.troubles:
            yield Text(f"  {trouble}", style="yellow")
