"""`ledger-store`, the backend: a database with four slots, which reports can exhaust.

`POST /query` holds a slot for 4 ms, `POST /scan` (what reports do) for 150 ms; who finds no free slot waits in line.
`GET /health` needs no slot and tells how the slots are used and by whom.
"""

from __future__ import annotations

import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread

from pipeline.patient.logfile import LogFile
from pipeline.patient.loopback import Answer, LoopbackServer, Request, RequestRefusedError
from pipeline.patient.unit import receive_order, say_ready

SLOTS = 4
QUERY_S = 0.004
SCAN_S = 0.150
SUMMARY_EVERY_S = 1.0


class Slots:
    """A semaphore that serves strictly in order of arrival, so that waiting times are what the load makes them.

    The standard one lets a newcomer overtake those who wait.
    """

    def __init__(self, count: int) -> None:
        self._lock = Lock()
        self._free = count
        self._waiting: deque[Event] = deque()

    @property
    def waiting(self) -> int:
        """How many stand in line now."""
        return len(self._waiting)

    @contextmanager
    def held(self) -> Iterator[float]:
        """Hold one slot; yields the seconds it took to get it."""
        began = time.monotonic()
        self._take()
        try:
            yield time.monotonic() - began
        finally:
            self._give()

    def _take(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = Event()
            self._waiting.append(turn)
        turn.wait()

    def _give(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()  # the slot changes hands without ever being free
            else:
                self._free += 1


class Usage:
    """Who uses the slots now, and what was done since the last summary."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._holders: dict[str, int] = {}
        self._done = {"/query": 0, "/scan": 0}
        self._wait_s_max = 0.0

    @contextmanager
    def of(self, caller: str, work: str, waited_s: float) -> Iterator[None]:
        """Count the caller as a holder while the work lasts."""
        with self._lock:
            self._holders[caller] = self._holders.get(caller, 0) + 1
            self._wait_s_max = max(self._wait_s_max, waited_s)
        yield
        with self._lock:
            self._done[work] += 1
            self._holders[caller] -= 1

    def holders(self) -> dict[str, int]:
        """Slots held now, per caller."""
        with self._lock:
            return {caller: count for caller, count in self._holders.items() if count}

    def take_summary(self) -> dict[str, int]:
        """What was done since the last call."""
        with self._lock:
            summary = {
                "queries": self._done["/query"],
                "scans": self._done["/scan"],
                "wait_ms_max": round(self._wait_s_max * 1000),
            }
            self._done = dict.fromkeys(self._done, 0)
            self._wait_s_max = 0.0
        return summary


class Store:
    """The backend's requests."""

    def __init__(self) -> None:
        self.slots = Slots(SLOTS)
        self.usage = Usage()

    def respond(self, request: Request) -> Answer:
        """Answer one request."""
        match request.method, request.path:
            case "GET", "/health":
                return Answer(200, {"status": "ok", "slots": SLOTS, "waiting": self.slots.waiting, **self._held()})
            case "POST", "/query":
                return self._work(request, QUERY_S)
            case "POST", "/scan":
                return self._work(request, SCAN_S)
            case _:
                raise RequestRefusedError(
                    404, f"{request.method} {request.path} is unknown, expected /health, /query or /scan"
                )

    def _held(self) -> dict[str, object]:
        holders = self.usage.holders()
        return {"busy": sum(holders.values()), "holders": holders}

    def _work(self, request: Request, duration_s: float) -> Answer:
        caller = request.headers.get("X-Caller", "unknown")
        with self.slots.held() as waited_s, self.usage.of(caller, request.path, waited_s):
            time.sleep(duration_s)  # the disk works, the processor does not
        return Answer(200, {"waited_ms": round(waited_s * 1000, 1)})


def summarise(store: Store, log: LogFile) -> None:
    """Write one line per second for ever."""
    while True:
        time.sleep(SUMMARY_EVERY_S)
        log.write("INFO", "worked", **store.usage.take_summary(), waiting=store.slots.waiting)


def main() -> None:
    """Serve until TERM."""
    order = receive_order()
    log = LogFile(order.log_path, order.name)
    store = Store()
    server = LoopbackServer(order.port, store.respond)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Thread(target=summarise, args=(store, log), daemon=True).start()
    log.write("INFO", "ready", port=server.server_port, slots=SLOTS)
    say_ready(order)
    server.serve_forever()


if __name__ == "__main__":
    main()
