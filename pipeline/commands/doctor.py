"""``aiops doctor``: is this machine fit, what runs where, and why?"""

from __future__ import annotations

import asyncio
import sys

import click

from pipeline.commands.examine_machine import installation, journal, machine, settings_in_force, state_directory
from pipeline.commands.examine_servers import examine_servers
from pipeline.commands.found import Found, Status
from pipeline.commands.output import counted, print_json
from pipeline.main import FAILED
from pipeline.settings import settings
from topology.errors import ConfigurationError

_STYLES: dict[Status, str] = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Tell what runs where and why, and what is wrong with it; exit 1 when there is a problem. Starts nothing."""
    examined = asyncio.run(_examine())
    problems = sum(found.status == "problem" for found in examined)
    if as_json:
        print_json({"problems": problems, "found": [found._asdict() for found in examined]})
    else:
        for found in examined:
            _show(found)
        warnings = sum(found.status == "warning" for found in examined)
        click.echo(f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}")
    if problems:
        sys.exit(FAILED)


async def _examine() -> list[Found]:
    examined = [*installation(), *machine()]
    try:
        chosen = settings()
    except ConfigurationError as error:
        return [*examined, Found("settings", "problem", str(error), "mend or unset the variable")]
    examined += [*settings_in_force(chosen), state_directory(chosen), *journal(chosen)]
    examined += [found async for found in examine_servers(chosen)]
    return examined


def _show(found: Found) -> None:
    status = click.style(f"{found.status:<8}", fg=_STYLES[found.status])
    click.echo(f"{status} {found.subject}: {found.what}")
    if found.remedy:
        click.echo(f"{'':<8} -> {found.remedy}")
