"""The contract between a source and the engine."""

from __future__ import annotations

from typing import Protocol

from pipeline.engine.publisher import Publish as Publish


class Source(Protocol):
    """Something that hears the outside world."""

    async def run(self, publish: Publish) -> None:
        """Publish what is heard until cancelled, or until there is no more to hear (a recording ends).

        May be called again after it has raised: it goes on from what was published, and gives what it reads twice the
        same ids.

        Raises:
            RetryableError: passed on from ``publish``; the supervisor starts the source again with back-off.
        """
