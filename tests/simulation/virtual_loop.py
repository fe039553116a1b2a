"""An event loop in virtual time whose every choice comes from a seed, and simulated processes that live on it.

Whatever awaits on it runs unchanged: workers, sinks, sources.  Time passes only when everybody waits, so a minute takes
milliseconds.  A process can be stalled (none of its callbacks run, the others go on, as after SIGSTOP) or killed (its
tasks end, and nothing they do while ending reaches the outside).

Callbacks of one moment run in the order they were registered in: asyncio promises that, and code relies on it.  What
nobody promises is chosen by the seed: which timers fall into one moment, and in which order those are served.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")
_Callback = Callable[..., object]
_BEGIN_S = 1_000.0
_BUSY_MAX_S = 0.02
"""How long computing keeps a loop from looking at its timers; what becomes due meanwhile falls into one moment."""
_TASKS_KEPT = 200
_CALLBACKS_MAX = 2_000_000


class KilledError(BaseException):
    """Raised into a process that was killed when it wants something of the outside."""


class StuckError(AssertionError):
    """Callbacks go on for ever while time stands still, or everybody waits for nothing."""


class Process:
    """What dies and stalls as one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.is_stalled = False
        self.held: deque[asyncio.Handle] = deque()
        self.tasks: list[asyncio.Task[Any]] = []
        self._errors: list[BaseException] = []

    def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine, and whatever it starts, as a part of this process."""
        return asyncio.get_running_loop().create_task(coroutine, context=self.context())

    def context(self) -> Context:
        """A context whose callbacks belong to this process."""
        context = copy_context()
        context.run(_PROCESS.set, self)
        return context

    def kill(self) -> None:
        """End it now; it gets no chance to say anything to anybody."""
        self.is_dead = True
        for task in self.tasks:
            task.cancel()

    def errors(self) -> list[BaseException]:
        """What its tasks that ended ended with."""
        done = [task for task in self.tasks if task.done() and not task.cancelled()]
        return self._errors + [error for task in done if (error := task.exception()) is not None]

    def add(self, task: asyncio.Task[Any]) -> None:
        """A task of this process began."""
        if len(self.tasks) > _TASKS_KEPT:
            self._errors = self.errors()
            self.tasks = [other for other in self.tasks if not other.done()]
        self.tasks.append(task)
        if self.is_dead:
            task.cancel()

    def check_alive(self) -> None:
        """Raises :class:`KilledError` in a killed process."""
        if self.is_dead:
            raise KilledError(self.name)


_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


def current_process() -> Process | None:
    """The process whose code is running."""
    return _PROCESS.get()


def virtual_loop(random: Random) -> VirtualLoop:
    """A loop whose choices come from ``random``."""
    return VirtualLoop(random)  # type: ignore[abstract]  # of what a loop can do, files and sockets have no place here


class VirtualLoop(asyncio.AbstractEventLoop):
    """See the module."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._now_s = _BEGIN_S
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._number = 0
        self._running = False
        self.failures: list[dict[str, Any]] = []

    def run_until_complete(self, future: Generator[Any, None, T] | Coroutine[Any, Any, T] | Any) -> T:
        asyncio._set_running_loop(self)
        self._running = True
        try:
            task: asyncio.Task[T] = self.create_task(future)
            callbacks = 0
            while not task.done():
                callbacks += 1
                if callbacks > _CALLBACKS_MAX:
                    msg = f"more than {_CALLBACKS_MAX} callbacks, at {self._now_s - _BEGIN_S:.3f} s"
                    raise StuckError(msg)
                self._run_once()
            return task.result()
        finally:
            self._running = False
            asyncio._set_running_loop(None)

    def resume(self, process: Process) -> None:
        """Let a stalled process go on."""
        process.is_stalled = False
        self._ready.extend(process.held)
        process.held.clear()

    def time(self) -> float:
        return self._now_s

    def call_soon(  # type: ignore[override]
        self, callback: _Callback, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: _Callback, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: _Callback, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._number += 1
        heapq.heappush(self._timers, (when, self._number, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **_: Any
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        process = _PROCESS.get() if context is None else context.get(_PROCESS)
        if process is not None:
            process.add(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        # What is only noticed when the garbage is collected would be told of another run; see Process.errors.
        if "handle" in context and not isinstance(context.get("exception"), KilledError):
            self.failures.append(context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return False

    def close(self) -> None:
        self._ready.clear()
        self._timers.clear()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Asyncio tells the loop; a cancelled timer is passed over when its time comes."""

    def _run_once(self) -> None:
        if not self._ready:
            self._pass_time()
        handle = self._ready.popleft()
        if handle.cancelled():
            return
        process = handle._context.get(_PROCESS)  # type: ignore[attr-defined]
        if process is not None and process.is_stalled:
            process.held.append(handle)
            return
        handle._run()

    def _pass_time(self) -> None:
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not timers:
            msg = f"everybody waits for nothing, at {self._now_s - _BEGIN_S:.3f} s"
            raise StuckError(msg)
        self._now_s = max(self._now_s, timers[0][0])
        if self._random.random() < 0.2:
            self._now_s += self._random.random() * _BUSY_MAX_S
        due: list[asyncio.Handle] = []
        while timers and timers[0][0] <= self._now_s:
            due.append(heapq.heappop(timers)[2])
        if len(due) > 1:
            self._random.shuffle(due)
        self._ready.extend(due)
