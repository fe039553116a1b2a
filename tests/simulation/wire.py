"""What lies between a process and the server of its mesh: time, and everything that happens to a request on its way.

The server is a memory mesh that outlives every process.  A request takes effect when it arrives, which may be long after
its sender was told that it failed, or died.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from pipeline.engine.memory import MemoryMesh
from pipeline.engine.mesh import MeshUnavailableError
from tests.simulation.virtual_loop import Process, VirtualLoop

_SLOW_S = 0.25
_LATE_S = 3.0
_ANSWERED_LATE_S = 0.3


@dataclass
class Weather:
    """What may happen to requests, how likely, and how often it did.

    Attributes:
        likely: probability per request of: ``request lost``, ``answer lost`` (it took effect, its sender is told that it
            failed), ``request late`` (its sender is told that it failed, then it takes effect), ``half done`` (a batch of
            which the last part was lost), ``crash before``, ``crash after`` (of the sender), ``slow``.
        is_away: the server cannot be reached by anybody.
        cut_off: names of processes that cannot reach it.
    """

    random: Random
    likely: Mapping[str, float]
    happened: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)
    is_away: bool = False
    cut_off: set[str] = field(default_factory=set)
    is_calm: bool = False

    def fate(self) -> str:
        """What happens to the next request; empty: nothing of note."""
        if self.is_calm:
            return ""
        chance = self.random.random()
        for fate, likely in self.likely.items():
            chance -= likely
            if chance < 0:
                return fate
        return ""

    def travel_s(self) -> float:
        """How long a message is on its way."""
        return 0.0001 + 0.004 * self.random.random() ** 2

    def note(self, what: str, about: str = "") -> None:
        """Something happened."""
        self.happened[what] += 1
        now_s = asyncio.get_running_loop().time()
        self.trace.append(f"{now_s:.4f} {what} {about}".rstrip())


class Wire:
    """A mesh as one process sees it: the methods are the server's, whatever they are.

    Args:
        on_crash: called when a request's fate is the crash of its sender; must kill the process.
    """

    def __init__(
        self, server: MemoryMesh, process: Process, weather: Weather, on_crash: Callable[[Process], None]
    ) -> None:
        self._server = server
        self._process = process
        self._weather = weather
        self._on_crash = on_crash

    def __getattr__(self, name: str) -> Any:
        return partial(self.call, name)

    async def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """One request to the server, and its answer."""
        method = getattr(self._server, name)
        self._process.check_alive()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        weather = self._weather
        fate = weather.fate()
        if fate == "half done" and (name not in {"commit", "publish"} or len(args[0]) < 2):
            fate = ""
        if fate:
            weather.note(fate, f"{self._process.name} {name}")
        travel_s = weather.travel_s()
        if fate == "slow":
            travel_s += _SLOW_S * weather.random.random()
        reply = loop.create_future()
        if fate == "request lost":
            loop.call_later(travel_s, _fail, reply, fate, context=_OUTSIDE)
        elif fate == "request late":
            loop.call_later(travel_s, _fail, reply, fate, context=_OUTSIDE)
            late_s = travel_s + _LATE_S * weather.random.random() ** 2
            loop.call_later(late_s, self._arrive, method, args, kwargs, loop.create_future(), "", context=_OUTSIDE)
        elif fate == "crash before":
            self._on_crash(self._process)
        else:
            if fate == "half done":
                args = (args[0][: weather.random.randrange(1, len(args[0]))], *args[1:])
            loop.call_later(travel_s, self._arrive, method, args, kwargs, reply, fate, context=_OUTSIDE)
        try:
            return await reply
        finally:
            self._process.check_alive()

    def _arrive(
        self,
        method: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        reply: asyncio.Future[Any],
        fate: str,
    ) -> None:
        if self._weather.is_away or self._process.name in self._weather.cut_off:
            _fail(reply, "the server cannot be reached")
            return
        if kwargs.get("wait_s"):
            self._wait(method(*args, **kwargs), reply, fate)
            return
        try:
            method(*args, **kwargs).send(None)
        except StopIteration as done:
            self._answer(reply, fate, done.value, None)
        except Exception as error:  # noqa: BLE001 - the server's boundary: what it raises is its answer
            self._answer(reply, fate, None, error)
        else:
            msg = f"the memory mesh waits in {method.__name__}"
            raise AssertionError(msg)

    def _wait(self, arrived: Coroutine[Any, Any, Any], reply: asyncio.Future[Any], fate: str) -> None:
        """The server answers when there is something to answer with; only a read is like that."""
        reading = asyncio.get_running_loop().create_task(arrived, context=_OUTSIDE)

        def answer(done: asyncio.Task[Any]) -> None:
            if not done.cancelled():
                self._answer(reply, fate, done.result(), None)

        reading.add_done_callback(answer, context=_OUTSIDE)
        reply.add_done_callback(lambda _: reading.cancel(), context=_OUTSIDE)

    def _answer(self, reply: asyncio.Future[Any], fate: str, result: Any, error: Exception | None) -> None:
        if fate == "crash after":
            self._on_crash(self._process)
        if reply.done():
            return
        loop, travel_s = asyncio.get_running_loop(), self._weather.travel_s()
        if fate in {"answer lost", "half done"}:
            late_s = _ANSWERED_LATE_S * self._weather.random.random()
            loop.call_later(travel_s + late_s, _fail, reply, fate, context=_OUTSIDE)
        elif error is not None:
            loop.call_later(travel_s, _raise, reply, error, context=_OUTSIDE)
        else:
            loop.call_later(travel_s, _succeed, reply, result, context=_OUTSIDE)


_OUTSIDE = copy_context()
"""The server's and the network's callbacks belong to no process: nobody's stall or death holds them up."""


def _succeed(reply: asyncio.Future[Any], result: Any) -> None:
    if not reply.done():
        reply.set_result(result)


def _raise(reply: asyncio.Future[Any], error: BaseException) -> None:
    if not reply.done():
        reply.set_exception(error)
        reply.exception()  # whoever sent it may be dead, or have given up; that is no reason to complain


def _fail(reply: asyncio.Future[Any], why: str) -> None:
    _raise(reply, MeshUnavailableError(why))
