"""`ledger-report`, the batch job: reads the whole store without pause and so takes its slots away from everybody else.

It starves the store by holding slots, not by burning a processor: the effect is the same on any machine under any load.
"""

from __future__ import annotations

import signal
import sys
import time
from threading import Lock, Thread

from pipeline.patient.logfile import LogFile
from pipeline.patient.loopback import NoAnswerError, ask
from pipeline.patient.unit import UnitOrder, receive_order, say_ready

READERS = 12
"""Four hold the slots, eight stand in line: who comes behind them waits for two rounds of scans, 300 to 450 ms."""
SCAN_TIMEOUT_S = 5.0
RETRY_AFTER_S = 0.5
SUMMARY_EVERY_S = 1.0


class Progress:
    """How many pages were read since the last summary, by all readers together."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._pages = 0

    def count(self) -> None:
        """One more page."""
        with self._lock:
            self._pages += 1

    def take(self) -> int:
        """Pages since the last call."""
        with self._lock:
            pages, self._pages = self._pages, 0
        return pages


def read_on(order: UnitOrder, log: LogFile, progress: Progress) -> None:
    """Scan page after page for ever."""
    while True:
        try:
            ask(order.store_port, "POST", "/scan", timeout_s=SCAN_TIMEOUT_S, headers={"X-Caller": order.name})
            progress.count()
        except NoAnswerError as unreachable:
            log.write("ERROR", "store unreachable", reason=unreachable)
            time.sleep(RETRY_AFTER_S)


def main() -> None:
    """Read until TERM."""
    order = receive_order()
    log = LogFile(order.log_path, order.name)
    progress = Progress()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log.write("INFO", "report begins", readers=READERS)
    for _ in range(READERS):
        Thread(target=read_on, args=(order, log, progress), daemon=True).start()
    say_ready(order)
    while True:
        time.sleep(SUMMARY_EVERY_S)
        log.write("INFO", "read", pages=progress.take())


if __name__ == "__main__":
    main()
