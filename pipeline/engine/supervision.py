"""Long-running parts as ``mode`` services that are restarted with exponential back-off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from mode import Service

from pipeline.engine.mesh import MeshUnavailableError
from topology.errors import RetryableError

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0
LONGEST_OUTAGE_PAUSE_S = 5.0
"""After errors that may pass by themselves (``RetryableError``)."""
STEADY_S = 60.0
"""After running this long a service is healthy again, and its next pause is the first one."""


class Routine(Service):
    """Runs a coroutine function for as long as the service lives, again and again with back-off when it fails.

    ``mode``'s own supervisors notice a crash only by a poll every five seconds and know no back-off, so the restarting is
    done here and ``mode`` keeps the tree: start order, stop order, names.

    Args:
        name: shown to people.
        run: returns only when there is nothing more to do; whatever it raises is a reason to start it again.
        fatal: errors that must end the whole program instead.

    Attributes:
        restarts: how often it was started again.
        trouble: what it last failed with, while it is pausing; empty while it runs.
    """

    abstract = False

    def __init__(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        *,
        fatal: tuple[type[BaseException], ...] = (),
        on_fatal: Callable[[BaseException], None] | None = None,
        stop: Callable[[], None] | None = None,
        stop_within_s: float = 3.0,
    ) -> None:
        super().__init__()
        self.name = name
        self.restarts = 0
        self.trouble = ""
        self._run = run
        self._fatal = fatal
        self._on_fatal = on_fatal
        self._stop = stop
        self._stop_within_s = stop_within_s
        self._running: asyncio.Task[None] | None = None
        self._in_outage = False

    @property
    def label(self) -> str:
        """How mode names the service in its logs."""
        return self.name

    async def on_start(self) -> None:
        """Begin."""
        self._running = asyncio.create_task(self._keep_running(), name=self.name)

    async def on_stop(self) -> None:
        """Let it finish what it has in hand, then end it."""
        running = self._running
        if running is None or running.done():
            return
        if self._stop is not None:
            self._stop()
            await asyncio.wait({running}, timeout=self._stop_within_s)
        running.cancel()
        await asyncio.wait({running}, timeout=self._stop_within_s)
        if not running.done():
            log.error("%s does not stop; it is left behind", self.name)

    async def _keep_running(self) -> None:
        pause_s = FIRST_PAUSE_S
        clock = asyncio.get_running_loop()
        while not self.should_stop:
            started_s = clock.time()
            try:
                await self._run()
            except self._fatal as error:
                self.trouble = str(error)
                if self._on_fatal is not None:
                    self._on_fatal(error)
                return
            except asyncio.CancelledError as error:
                if self._is_cancelled():
                    raise
                # Something it waited for was cancelled; that is a failure like any other.
                self._report(error, steady=clock.time() - started_s >= STEADY_S)
            except Exception as error:  # noqa: BLE001 - a service's boundary: reported, and started again
                self._report(error, steady=clock.time() - started_s >= STEADY_S)
            else:
                return
            if clock.time() - started_s >= STEADY_S:
                pause_s = FIRST_PAUSE_S
            # What is away may be back any moment; what is broken may stay so.
            longest_s = LONGEST_OUTAGE_PAUSE_S if self._in_outage else LONGEST_PAUSE_S
            pause_s = min(pause_s, longest_s)
            await self.sleep(pause_s)  # ends early when the service is stopped
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            if not self.should_stop:
                self.restarts += 1
                self.trouble = ""

    def _is_cancelled(self) -> bool:
        return self._running is not None and self._running.cancelling() > 0

    def _report(self, error: BaseException, *, steady: bool) -> None:
        self.trouble = f"{type(error).__name__}: {error}"
        expected: Any = getattr(error, "__module__", "").startswith(("pipeline", "topology"))
        # An outage is one thing to say, however often it is tried; that of the mesh's server the mesh says itself, for all.
        again = (isinstance(error, RetryableError) and self._in_outage and not steady) or type(
            error
        ) is MeshUnavailableError
        self._in_outage = isinstance(error, RetryableError)
        level = logging.DEBUG if again else logging.WARNING
        log.log(level, "%s failed and is started again: %s", self.name, self.trouble, exc_info=not expected)
