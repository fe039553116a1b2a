"""The host's main thread as the one that forks.

Linux ties a child's parent-death signal to the *thread* that forked it, not to the process: a unit forked by a control
request's thread would die as soon as that request is answered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
Job = Callable[[], None]


class MainThread:
    """Runs jobs of other threads in the main thread, one after the other."""

    def __init__(self) -> None:
        # SimpleQueue, because `leave` is called from signal handlers: its `put` may interrupt its own `get`.
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()

    def do(self, work: Callable[[], T]) -> T:
        """Run the work in the main thread and hand back what it returns or raises."""
        if threading.current_thread() is threading.main_thread():
            return work()
        result: list[T] = []
        errors: list[Exception] = []
        finished = threading.Event()

        def job() -> None:
            try:
                result.append(work())
            except Exception as error:  # noqa: BLE001 - it is raised again where the work was asked for
                errors.append(error)
            finished.set()

        self._jobs.put(job)
        finished.wait()
        if errors:
            raise errors[0]
        return result[0]

    def serve(self) -> None:
        """Run jobs until `leave` is called; only the main thread may call this."""
        while (job := self._jobs.get()) is not None:
            job()

    def leave(self) -> None:
        """Let `serve` return.  Safe from any thread and from signal handlers."""
        self._jobs.put(None)
