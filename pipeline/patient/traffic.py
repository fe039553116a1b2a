"""The customers: about five transfers a second, from the outside, whatever state the service is in."""

from __future__ import annotations

import time
from http import HTTPStatus
from threading import Lock, Thread

from pipeline.patient.loopback import Document, NoAnswerError, ask

CUSTOMERS = 5
TRANSFER_EVERY_S = 1.0
"""Per customer; they take turns, so that the transfers are spread evenly."""
PATIENCE_S = 1.0
DESTINATIONS = ("domestic", "domestic", "abroad")


class Customers:
    """Sends transfers and counts how they went.  The counts are the trial's, not telemetry."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = Lock()
        self._transfers = 0
        self._failed = 0
        self._failed_in_a_row = 0

    def arrive(self) -> None:
        """Begin sending, until the process ends."""
        for number in range(CUSTOMERS):
            Thread(target=self._visit, args=(number,), name=f"customer {number}", daemon=True).start()

    def described(self) -> Document:
        """Counts since the host started."""
        with self._lock:
            return {
                "transfers": self._transfers,
                "failed": self._failed,
                "failed_in_a_row": self._failed_in_a_row,
            }

    def _visit(self, number: int) -> None:
        due = time.monotonic() + number * TRANSFER_EVERY_S / CUSTOMERS
        visits = number
        while True:
            time.sleep(max(0.0, due - time.monotonic()))
            self._transfer(DESTINATIONS[visits % len(DESTINATIONS)])
            visits += 1
            due = max(due + TRANSFER_EVERY_S, time.monotonic())

    def _transfer(self, destination: str) -> None:
        try:
            answer = ask(self._port, "POST", "/transfer", {"destination": destination}, timeout_s=PATIENCE_S)
            booked = answer.status == HTTPStatus.OK
        except NoAnswerError:
            booked = False
        with self._lock:
            self._transfers += 1
            self._failed += not booked
            self._failed_in_a_row = 0 if booked else self._failed_in_a_row + 1
