"""Changes announced to the outside: CloudEvents 1.0, posted to a door and kept in a journal."""

from __future__ import annotations

import os
import time
from http import HTTPStatus
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple

from pipeline.patient import durable
from pipeline.patient.logfile import LogFile, timestamp
from pipeline.patient.loopback import Document, Endpoint, NoAnswerError, ask

POST_TIMEOUT_S = 2.0
GIVE_UP_AFTER_S = 60.0
RETRY_AFTER_S_MIN = 0.1
RETRY_AFTER_S_MAX = 2.0


class Change(NamedTuple):
    """A deployment of another version of a unit's configuration."""

    service: str
    summary: str
    version: int
    previous_version: int | None


def cloud_event(change: Change) -> Document:
    """The change as a structured CloudEvent."""
    return {
        "specversion": "1.0",
        "id": os.urandom(16).hex(),
        "source": "/patient/deployer",
        "type": "com.aiops.change.applied",
        "subject": change.service,
        "time": timestamp(),
        "datacontenttype": "application/json",
        "data": {
            "service": change.service,
            "change": f"{change.service}-configuration-{change.version}",
            "kind": "configuration",
            "summary": change.summary,
            "version": change.version,
            "previous_version": change.previous_version,
            "reversible": change.previous_version is not None,
        },
    }


class Announcer:
    """Posts each change to the door, in order, until it is taken; gives up after a minute and says so in the log.

    The journal has every change as soon as `announce` returns, whatever becomes of the posting.
    """

    def __init__(self, door: Endpoint | None, journal: Path, log: LogFile) -> None:
        self._door = door
        self._journal = journal
        self._log = log
        self._outbox: SimpleQueue[Document] = SimpleQueue()
        if door is not None:
            Thread(target=self._post_on, args=(door,), name="announcer", daemon=True).start()

    def announce(self, change: Change) -> None:
        """Make a change known; does not wait for the door."""
        event = cloud_event(change)
        durable.append(self._journal, event)
        if self._door is not None:
            self._outbox.put(event)

    def _post_on(self, door: Endpoint) -> None:
        while True:
            self._post(door, self._outbox.get())

    def _post(self, door: Endpoint, event: Document) -> None:
        deadline = time.monotonic() + GIVE_UP_AFTER_S
        pause_s = RETRY_AFTER_S_MIN
        headers = {"Content-Type": "application/cloudevents+json"}
        while True:
            try:
                status = ask(
                    door.port, "POST", door.path, event, timeout_s=POST_TIMEOUT_S, headers=headers, host=door.host
                ).status
                if status < HTTPStatus.BAD_REQUEST:
                    return
                trouble = f"the door answered {status}"
                worth_repeating = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS
            except NoAnswerError as unreachable:
                trouble, worth_repeating = str(unreachable), True
            if not worth_repeating or time.monotonic() + pause_s > deadline:
                self._log.write("WARN", "change not announced", event=event["id"], reason=trouble)
                return
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, RETRY_AFTER_S_MAX)
