"""The ``aiops`` command: its verbs, each loaded when it is called, and what becomes of their errors.

Exit codes: 0 fine, 1 failed, 2 called in a wrong way, 78 bad configuration, 130 interrupted.
"""

from __future__ import annotations

import sys
import traceback
from difflib import get_close_matches
from importlib import import_module

import click

from pipeline.ownership import DISTRIBUTION, explain_foreign, foreign_packages

FAILED, BAD_CONFIGURATION, INTERRUPTED = 1, 78, 130

VERBS = {
    "run": ("pipeline.commands.run:run", "Run everything in this process until Ctrl-C."),
    "worker": ("pipeline.commands.worker:worker", "Run some stages: one of several workers."),
    "topology": ("pipeline.commands.topology:topology", "Check, test, describe or draw a topology, or add to it."),
    "ingest": ("pipeline.commands.ingest:ingest", "Turn foreign payloads into events, and publish them if asked to."),
    "record": ("pipeline.commands.record:record", "Write what streams said to a portable file."),
    "recording": ("pipeline.commands.recording_import:recording", "Import, look into, cut or merge recordings."),
    "replay": ("pipeline.commands.replay:replay", "Play a recording through a topology, in virtual time."),
    "tap": ("pipeline.commands.tap:tap", "Listen in on a stream."),
    "top": ("pipeline.commands.top:top", "Show rates, lag and owners of every stage, live."),
    "dlq": ("pipeline.commands.dlq:dlq", "List, show, replay or drop what could not be processed."),
    "incidents": ("pipeline.commands.incidents:incidents", "List incidents, or tell the story of one."),
    "approve": ("pipeline.commands.approval:approve", "Allow a plan that waits; without one, list those that wait."),
    "deny": ("pipeline.commands.approval:deny", "Forbid a plan that waits."),
    "doctor": ("pipeline.commands.doctor:doctor", "Is this machine fit? What runs where, and why."),
    "bench": ("pipeline.commands.bench:bench", "Measure speed, latency, recovery and backtests."),
    "stop": ("pipeline.commands.stop:stop", "Stop the embedded servers of the state directory."),
}
"""Verb -> where it is, and what it does in one line."""


class CommandFailedError(click.ClickException):
    """An error of ours on its way out: one paragraph on stderr, and an exit code."""

    def __init__(self, error: Exception, exit_code: int) -> None:
        super().__init__(str(error) or type(error).__name__)
        self.exit_code = exit_code

    def show(self, file: object = None) -> None:
        del file
        click.echo(f"aiops: {self.message}", err=True)


class Verbs(click.Group):
    """Knows its verbs by name; imports one only when it is called, since their libraries take a second to load."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in VERBS:
            return None
        module, _, attribute = VERBS[cmd_name][0].partition(":")
        found: click.Command = getattr(import_module(module), attribute)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            similar = get_close_matches(args[0], VERBS, n=1)
            ctx.fail(f"no such verb: {args[0]}{f'; did you mean {similar[0]}?' if similar else ''}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Verbs"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in VERBS.items()])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            exit_code = _exit_code(error)
            if exit_code is None:
                raise  # a mistake of ours: the traceback is what helps
            if ctx.params.get("debug"):
                traceback.print_exception(error)
            raise CommandFailedError(error, exit_code) from error


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name=DISTRIBUTION, prog_name="aiops", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, envvar="AIOPS_DEBUG", help="Show where an error came from (AIOPS_DEBUG=1).")
def aiops(debug: bool) -> None:
    """Run other systems: detect, diagnose, repair, verify, learn.

    With --json a verb prints nothing but JSON on stdout; what else there is to say goes to stderr.
    """
    import logging

    level = logging.INFO if debug else logging.WARNING
    logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def main() -> None:
    """The entry point; ends the process."""
    # First of all: whatever else is imported may already be somebody else's.
    foreign = foreign_packages()
    if foreign:
        click.echo(f"aiops: {explain_foreign(foreign)}", err=True)
        sys.exit(BAD_CONFIGURATION)
    aiops.main(prog_name="aiops")


def _exit_code(error: Exception) -> int | None:
    from topology.errors import AiopsError, ConfigurationError, UsageError

    if isinstance(error, UsageError):
        return click.UsageError.exit_code
    if isinstance(error, ConfigurationError):
        return BAD_CONFIGURATION
    return FAILED if isinstance(error, AiopsError) else None


if __name__ == "__main__":
    main()
