"""Why embedded servers could not be had, by what the caller should do.

ServersError
|- EngineMissingError       install a server, or set REDIS_URL / DATABASE_URL
|  `- CpuUnsupportedError   the server is there, this processor cannot run it: the same way out
|- StateDirUnusableError    choose another AIOPS_STATE_DIR, or mend its permissions
|- DataDirBoundError        the data belongs to another server or version: bring that one back, or move the data away
`- ServerFailedError        read the log whose end the message shows; the same call may succeed later
"""

from __future__ import annotations

from pathlib import Path

from topology.errors import AiopsError

LOG_LINES_SHOWN_MAX = 12


class ServersError(AiopsError):
    """Embedded servers are not to be had; the message says why and what to do."""


class EngineMissingError(ServersError):
    """No usable server program was found on this machine."""


class CpuUnsupportedError(EngineMissingError):
    """The vector extension was built for newer processors and dies here of an illegal instruction."""


class StateDirUnusableError(ServersError):
    """The state directory cannot be created, reached, locked, or belongs to somebody else."""


class DataDirBoundError(ServersError):
    """The data directory was written by an engine that is not the one found now."""


class ServerFailedError(ServersError):
    """A server did not start, did not answer or did not stop."""


def end_of_log(log: Path) -> str:
    """The last lines of a log, indented for an error message; a note where there is none."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    shown = lines[-LOG_LINES_SHOWN_MAX:] or ["(empty)"]
    return f"End of {log}:\n" + "\n".join(f"    {line}" for line in shown)
