"""Requests with an idempotency key: done once, answered the same for ever, also over a restart of the host."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from pipeline.patient import durable
from pipeline.patient.loopback import Answer, Document, Request, RequestRefusedError

KEYS_MAX = 1000
KEY_CHARACTERS_MAX = 200


class AnsweredOnce:
    """Remembers the answers to the last thousand keys.

    A request is first *resolved* into a form that can be repeated without harm ("the version before" becomes
    "version 1"), and that is written down before anything is done.  A host that dies in between then finishes the very
    same thing when the key comes again.
    """

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._lock = Lock()
        self._records: dict[str, Document] = durable.load(memory, {})

    def answer(self, request: Request, resolve: Callable[[], Document], act: Callable[[Document], Document]) -> Answer:
        """Do what the request asks for, unless its key says that this has been done.

        Raises:
            RequestRefusedError: 400 the key is too long; 422 the key was used for another request.
        """
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return _done(lambda: act(resolve()))
        if not 0 < len(key) <= KEY_CHARACTERS_MAX:
            raise RequestRefusedError(
                400, f"Idempotency-Key has {len(key)} characters, expected 1 to {KEY_CHARACTERS_MAX}"
            )
        asked = f"{request.method} {request.path} {json.dumps(request.body, sort_keys=True)}"
        with self._lock:
            record = self._records.get(key)
            if record is None:
                try:
                    record = {"asked": asked, "resolved": resolve(), "answer": None}
                except RequestRefusedError as refusal:
                    record = {"asked": asked, "resolved": None, "answer": refusal.answer()}
                self._keep(key, record)
            if record["asked"] != asked:
                raise RequestRefusedError(
                    422, f"Idempotency-Key {key!r} was used for {record['asked']}: take a new key"
                )
            if record["answer"] is None:
                record["answer"] = _done(lambda: act(record["resolved"]))
                self._keep(key, record)
            return Answer(*record["answer"])

    def _keep(self, key: str, record: Document) -> None:
        self._records[key] = record
        while len(self._records) > KEYS_MAX:
            del self._records[next(iter(self._records))]
        durable.store(self._memory, self._records)


def _done(work: Callable[[], Document]) -> Answer:
    try:
        return Answer(200, work())
    except RequestRefusedError as refusal:
        return refusal.answer()
