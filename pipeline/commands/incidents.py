"""``aiops incidents``: what happened, from the knowledge."""

from __future__ import annotations

import asyncio
from typing import get_args

import click

from pipeline.commands.incident_story import STYLES, headline, lines
from pipeline.commands.output import fit, print_json
from pipeline.commands.reach import has_knowledge, reached_database
from pipeline.knowledge.lookup import incidents_named
from pipeline.knowledge.store import PostgresKnowledge
from pipeline.knowledge.story import IncidentStatus, IncidentStory, IncidentSummary
from pipeline.settings import Settings, settings
from tables.embedding import PROVIDER, embed
from topology.errors import BadInputError

_ID_SHOWN = 8
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class NoSuchIncidentError(BadInputError):
    """No incident, or more than one, has an id that begins as asked."""


@click.group()
def incidents() -> None:
    """List incidents, or tell the story of one."""


@incidents.command("list")
@click.option("--status", type=click.Choice(get_args(IncidentStatus)), help="Only these.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="At most so many.")
@_JSON
def list_incidents(status: IncidentStatus | None, limit: int, as_json: bool) -> None:
    """List incidents, the newest first."""
    found = asyncio.run(_list(settings(), limit, status))
    if as_json:
        print_json([incident.model_dump(mode="json") for incident in found])
        return
    if not found:
        click.echo(f"no {status} incidents" if status else "no incidents so far")
    for incident in found:
        click.echo(fit(_line(incident)))


@incidents.command()
@click.argument("incident", metavar="ID")
@_JSON
def show(incident: str, as_json: bool) -> None:
    """Tell everything about the incident whose id is ID, or begins with it, in order of time."""
    story = asyncio.run(_story(settings(), incident))
    if as_json:
        print_json(_as_json(story))
        return
    now = story.incident
    click.secho(headline(now), bold=True)
    click.echo(f"incident {now.incident}, opened {now.opened_at.astimezone():%Y-%m-%d %H:%M:%S}")
    if now.why:
        click.echo(f"one story because: {now.why}")
    for line in lines(story):
        moment = f"{line.at.astimezone():%H:%M:%S.%f}"[:-5]
        click.echo(f"{moment}  {click.style(f'{line.label:<10}', fg=STYLES.get(line.label))} {line.text}")


async def _list(chosen: Settings, limit: int, status: IncidentStatus | None) -> list[IncidentSummary]:
    if not has_knowledge(chosen):
        return []
    async with reached_database(chosen) as pool:
        return await PostgresKnowledge(pool, embed=embed, provider=PROVIDER).incidents(limit, status)


async def _story(chosen: Settings, beginning: str) -> IncidentStory:
    if not has_knowledge(chosen):
        msg = f"found no incident {beginning!r}: nothing was ever stored in {chosen.state_dir}; start with `aiops run`"
        raise NoSuchIncidentError(msg)
    async with reached_database(chosen) as pool:
        found = await incidents_named(pool, beginning)
        if len(found) != 1:
            raise NoSuchIncidentError(_not_one("incident", beginning, [str(each) for each in found]))
        story = await PostgresKnowledge(pool, embed=embed, provider=PROVIDER).incident(found[0])
    if story is None:
        raise NoSuchIncidentError(_not_one("incident", beginning, []))
    return story


def _not_one(what: str, beginning: str, found: list[str]) -> str:
    if not found:
        return f"found no {what} whose id begins with {beginning!r}; `aiops incidents list` shows them"
    return f"found several: {', '.join(found)}; give more of the id than {beginning!r}"


def _line(incident: IncidentSummary) -> str:
    lasted = "open" if incident.resolved_at is None else f"{(incident.resolved_at - incident.opened_at).seconds} s"
    cure = f" · {incident.solution}" if incident.solution else ""
    tries = f" · {incident.attempts} tried" if incident.attempts else ""
    return (
        f"{str(incident.incident)[:_ID_SHOWN]}  {incident.opened_at.astimezone():%m-%d %H:%M:%S}  {lasted:>6}  "
        f"{incident.severity:<8}  {incident.system}: {incident.title}{tries}{cure}"
    )


def _as_json(story: IncidentStory) -> dict[str, object]:
    said = [
        {"at": moment.at, "event_type": moment.said.event_type, "payload": moment.said.model_dump(mode="json")}
        for moment in story.moments
    ]
    return {"incident": story.incident.model_dump(mode="json"), "moments": said}
