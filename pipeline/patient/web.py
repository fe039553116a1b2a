"""`ledger`, the web service the customers see: books transfers in the store.

`POST /transfer` books one; `GET /health` is a deep health page: it books nothing but does everything a transfer does.
Both answer 200, 500 when the configuration makes the computation fail, 503 when the store does not answer.
"""

from __future__ import annotations

import json
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from pipeline.patient.fees import fee
from pipeline.patient.logfile import LogFile
from pipeline.patient.loopback import Answer, Document, LoopbackServer, NoAnswerError, Request, RequestRefusedError, ask
from pipeline.patient.unit import UnitOrder, receive_order, say_ready

STORE_TIMEOUT_S = 2.0
SUMMARY_EVERY_S = 1.0
CACHE_BLOCK_BYTES = 4 * 1024 * 1024
CACHE_BLOCKS_MAX = 62
"""62 blocks of 4 MB: the leak ends at about 250 MB, so that it harms the service and not the machine."""
CACHE_BLOCK_EVERY_S = 0.1


class StoreFailedError(Exception):
    """The store gave no answer, or not the right one."""


class Ledger:
    """The service: its configuration, its books, and its weaknesses.

    Every request, the summary and the orderly end go through one lock (`books`), as in many a real service: whoever
    takes it for ever takes the service with it.
    """

    def __init__(self, order: UnitOrder, log: LogFile) -> None:
        self.books = Lock()
        self._order = order
        self._log = log
        self._latencies_ms: list[float] = []
        self._failed = 0
        self._connections = 0
        self._tracebacks: set[str] = set()
        self._cache: list[bytes] = []
        self._configuration: Document = {}
        self.version = 0
        self.read_configuration()

    def read_configuration(self) -> None:
        """Take over what the deployer has put in place."""
        deployed: dict[str, Any] = json.loads(Path(self._order.configuration).read_bytes())
        with self.books:
            self.version, self._configuration = deployed["version"], deployed["content"]
            self._tracebacks.clear()
        self._log.write("INFO", "configuration read", version=self.version)

    def admit(self) -> None:
        """Count a connection before it is served; while the books are taken none gets further than the kernel."""
        with self.books:
            self._connections += 1

    def respond(self, request: Request) -> Answer:
        """Answer one request."""
        match request.method, request.path:
            case "GET", "/health":
                return self._health()
            case "POST", "/transfer":
                return self._transfer(request)
            case _:
                raise RequestRefusedError(
                    404, f"{request.method} {request.path} is unknown, expected /health or /transfer"
                )

    def _health(self) -> Answer:
        page: Document = {"service": self._order.name, "version": self.version}
        try:
            _, store_ms = self._book("domestic")
        except StoreFailedError as failure:
            return Answer(503, {**page, "status": "store unreachable", "reason": str(failure)})
        except (ValueError, KeyError, TypeError) as error:
            return Answer(500, {**page, "status": "failing", "reason": f"{type(error).__name__}: {error}"})
        return Answer(200, {**page, "status": "ok", "store_ms": store_ms})

    def _transfer(self, request: Request) -> Answer:
        began = time.monotonic()
        destination = str(request.body.get("destination", "domestic"))
        if destination not in ("domestic", "abroad"):
            raise RequestRefusedError(400, f"destination is {destination!r}, expected domestic or abroad")
        try:
            charged, _ = self._book(destination)
        except StoreFailedError as failure:
            self._count(began, failed=True)
            self._log.write("ERROR", "store unreachable", status=503, reason=failure)
            return Answer(503, {"error": "store unreachable"})
        except (ValueError, KeyError, TypeError) as error:
            self._count(began, failed=True)
            self._log_unexpected(error)
            return Answer(500, {"error": "internal error"})
        self._count(began, failed=False)
        return Answer(200, {"booked": True, "fee": charged})

    def _book(self, destination: str) -> tuple[float, float]:
        """Do one transfer's work: its fee, and the milliseconds the store took."""
        with self.books:
            charged = fee(self._configuration, destination)
        began = time.monotonic()
        try:
            answer = ask(
                self._order.store_port,
                "POST",
                "/query",
                timeout_s=STORE_TIMEOUT_S,
                headers={"X-Caller": self._order.name},
            )
        except NoAnswerError as unreachable:
            raise StoreFailedError(str(unreachable)) from unreachable
        if answer.status != 200:
            raise StoreFailedError(f"the store answered {answer.status}")
        return charged, round((time.monotonic() - began) * 1000, 1)

    def _count(self, began: float, *, failed: bool) -> None:
        with self.books:
            self._latencies_ms.append((time.monotonic() - began) * 1000)
            self._failed += failed

    def _log_unexpected(self, error: Exception) -> None:
        """One line per failure; the traceback only with the first of its kind, or five a second would flood the log."""
        kind = f"{type(error).__name__}: {error}"
        with self.books:
            first = kind not in self._tracebacks
            self._tracebacks.add(kind)
        details = "".join(traceback.format_exception(error)) if first else ""
        self._log.write("ERROR", "transfer failed", details, status=500, error=kind, version=self.version)

    def summarise(self) -> None:
        """Write one access line per second for ever."""
        while True:
            time.sleep(SUMMARY_EVERY_S)
            with self.books:
                latencies_ms, self._latencies_ms = sorted(self._latencies_ms), []
                failed, self._failed = self._failed, 0
                connections, self._connections = self._connections, 0
            self._log.write(
                "INFO",
                "served",
                connections=connections,
                requests=len(latencies_ms),
                failed=failed,
                p50_ms=round(latencies_ms[len(latencies_ms) // 2]) if latencies_ms else 0,
                max_ms=round(latencies_ms[-1]) if latencies_ms else 0,
            )

    def deadlock(self) -> None:
        """Take the lock twice: the main thread waits for itself for ever, and everybody else for the main thread.

        Requests and health page hang with it, and TERM stays pending because nobody waits for signals any more.
        """
        self.books.acquire()
        self.books.acquire()

    def begin_leaking(self) -> None:
        """Cache without ever evicting, about 40 MB/s."""
        Thread(target=self._leak, daemon=True).start()

    def _leak(self) -> None:
        while len(self._cache) < CACHE_BLOCKS_MAX:
            self._cache.append(b"\x01" * CACHE_BLOCK_BYTES)  # not zeros: the kernel gives those pages only when touched
            time.sleep(CACHE_BLOCK_EVERY_S)

    def end(self) -> None:
        """End in an orderly way, which waits for what is being booked; deadlocked, it waits for ever."""
        with self.books:
            self._log.write("INFO", "ends")
        sys.exit(0)


def main() -> None:
    """Serve in the background; the main thread waits for signals and obeys them one after the other."""
    orders = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    # Waited for, not handled: a handler could interrupt another one that holds `books`, and hang by accident.
    signal.pthread_sigmask(signal.SIG_BLOCK, orders)
    order = receive_order()
    log = LogFile(order.log_path, order.name)
    ledger = Ledger(order, log)
    server = LoopbackServer(order.port, ledger.respond, admit=ledger.admit)
    Thread(target=server.serve_forever, daemon=True).start()
    Thread(target=ledger.summarise, daemon=True).start()
    log.write("INFO", "ready", port=server.server_port, version=ledger.version)
    say_ready(order)
    react: dict[int, Callable[[], None]] = {
        signal.SIGTERM: ledger.end,
        signal.SIGHUP: ledger.read_configuration,
        signal.SIGUSR1: ledger.deadlock,
        signal.SIGUSR2: ledger.begin_leaking,
    }
    while True:
        react[signal.sigwait(orders)]()


if __name__ == "__main__":
    main()
