"""``aiops stop``: stops the embedded servers."""

from __future__ import annotations

import click

from pipeline import servers
from pipeline.commands.output import print_json
from pipeline.servers import ServerInfo
from pipeline.settings import settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stop(as_json: bool) -> None:
    """Stop the embedded servers of the state directory now, whoever uses them.

    Otherwise they stop with their last user. What they have stored stays. Servers that REDIS_URL and DATABASE_URL name
    are not ours to stop.
    """
    state_dir = settings().state_dir
    stopped = [each.name for each in servers.inspect(state_dir) if isinstance(each, ServerInfo) and each.pid]
    servers.stop(state_dir)
    if as_json:
        print_json({"state_dir": str(state_dir), "stopped": stopped})
    else:
        click.echo(f"stopped {', '.join(stopped)} in {state_dir}" if stopped else f"nothing was running in {state_dir}")
