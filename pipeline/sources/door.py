"""The HTTP door: what other systems post becomes events, durable before they are answered.

    POST /v1/events           CloudEvents 1.0 (structured, binary, batch), or our own envelope as application/json
    POST /v1/alertmanager     Alertmanager's webhook, version 4
    POST /v1/json/{mapping}   any JSON, by a declared mapping
    GET  /health              is the door open?

202 ``{"accepted": n, "duplicates": m}`` means that the events are durable.  Anything else means that nothing of the body was
taken, and says why: ``{"error", "field", "expected"}``.  Masking comes before ``publish``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ExceptionHandler

from pipeline.security.masking import mask_event
from pipeline.sources.door_body import Refusal, read_body
from pipeline.sources.formats import FORMATS, Format, Reception
from pipeline.sources.formats.body import TooManyItemsError
from pipeline.sources.formats.cloudevents import read_binary
from pipeline.sources.formats.mapping import JsonMapping
from pipeline.sources.source import Publish
from topology.errors import BadInputError, ConfigurationError, RetryableError
from topology.event import Event, Payload

log = logging.getLogger(__name__)

_INLINE_BYTES_MAX = 32 * 1024
"""Smaller bodies are parsed in a millisecond; larger ones in a thread, so that they hold up nobody."""
_AHEAD_MAX = timedelta(minutes=5)
"""An event may not be from further in the future: it would close every window before its time."""
_AT_HAND_MAX = 64
"""Requests whose bodies are in memory at one time."""
_RETRY_AFTER_S = 1
_STOP_WITHIN_S = 3

_HEADERS_BY_STATUS = {
    401: {"www-authenticate": "Bearer"},
    408: {"connection": "close"},  # the rest of the body may come for ever
    503: {"retry-after": str(_RETRY_AFTER_S)},
}
_FORMATS_BY_MEDIA = {
    "application/cloudevents+json": FORMATS["cloudevents"],
    "application/cloudevents-batch+json": FORMATS["cloudevents"],
    "application/json": FORMATS["events"],
}


class Door:
    """Listens for HTTP and publishes what comes in.

    Args:
        host: loopback by default; anybody who reaches the door may post, so set a token before opening it wider.
        port: 0 lets the system choose; :attr:`url` tells.
        token: when set, requests need ``Authorization: Bearer <token>``.
        mappings: what ``/v1/json/{mapping}`` understands.
        name: the ``source`` of events whose format does not say one.

    Attributes:
        accepted, duplicates: events taken, and events that were known already.
        refused: requests that were refused, by reason.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        mappings: Iterable[JsonMapping] = (),
        name: str = "door",
    ) -> None:
        self.accepted = 0
        self.duplicates = 0
        self.refused: Counter[str] = Counter()
        self._host, self._port = host, port
        self._token = token
        self._mappings = {mapping.name: mapping for mapping in mappings}
        self._name = name
        self._at_hand = 0
        self._reading_large = asyncio.Lock()  # one large body at a time: parsed, it is many times its size
        self._socket: socket.socket | None = None

    @property
    def url(self) -> str:
        """Where the door is, such as ``http://127.0.0.1:8088``; the port is known once it listens."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def listen(self) -> str:
        """Take the port, so that its number is known before anything runs; :meth:`run` does it otherwise.

        Raises:
            ConfigurationError: the address cannot be had.
        """
        if self._socket is None:
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            try:
                self._socket = socket.create_server((self._host, self._port), family=family, backlog=256)
            except OSError as error:
                msg = f"the door cannot listen at {self.url} ({error.strerror or error}); choose another host or port"
                raise ConfigurationError(msg) from error
            self._port = self._socket.getsockname()[1]
        return self.url

    async def run(self, publish: Publish) -> None:
        """Serve until cancelled; requests at hand are finished first.  See :class:`pipeline.sources.source.Source`."""
        self.listen()
        assert self._socket is not None  # noqa: S101 listen has just set it
        config = uvicorn.Config(
            self.application(publish),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            http="h11",
            timeout_keep_alive=30,
            timeout_graceful_shutdown=_STOP_WITHIN_S,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[self._socket]))
        try:
            await asyncio.shield(serving)
        finally:
            server.should_exit = True
            with contextlib.suppress(asyncio.CancelledError):
                await serving
            self._socket.close()
            self._socket = None

    def application(self, publish: Publish) -> Starlette:
        """The door as an ASGI application."""
        handlers: dict[type[Exception] | int, ExceptionHandler] = {
            HTTPException: self._unknown_place,
            ClientDisconnect: self._gone,
        }
        return Starlette(
            routes=[
                Route("/v1/events", partial(self._take, publish, self._event_format), methods=["POST"]),
                Route("/v1/alertmanager", partial(self._take, publish, _alertmanager_format), methods=["POST"]),
                Route("/v1/json/{mapping}", partial(self._take, publish, self._mapped_format), methods=["POST"]),
                Route("/health", self._health, methods=["GET"]),
            ],
            exception_handlers=handlers,
        )

    async def _health(self, request: Request) -> Response:
        del request
        return answer(200, {"status": "ok"})

    async def _take(self, publish: Publish, format_of: Callable[[Request], Format], request: Request) -> Response:
        try:
            self._check_token(request)
            read = format_of(request)
            with self._within_limit():
                events = await self._read(read, await read_body(request))
                new = await publish(events) if events else 0
        except Refusal as refusal:
            return self._refuse(refusal)
        except TooManyItemsError as error:
            return self._refuse(Refusal.of_input(422, "too many items", error))
        except BadInputError as error:
            return self._refuse(Refusal.of_input(400, "bad input", error))
        except RetryableError as error:
            log.warning("the door cannot take events now: %s", error)
            return self._refuse(Refusal(503, "mesh away", "found no mesh to store events in", expected="a later try"))
        self.accepted += new
        self.duplicates += len(events) - new
        return answer(202, {"accepted": new, "duplicates": len(events) - new})

    async def _read(self, read: Format, body: bytes) -> list[Event[Payload]]:
        reception = Reception(at=datetime.now(UTC), source=self._name)
        if len(body) <= _INLINE_BYTES_MAX:
            return _events(read, body, reception)
        async with self._reading_large:
            return await asyncio.to_thread(_events, read, body, reception)

    @contextlib.contextmanager
    def _within_limit(self) -> Iterator[None]:
        if self._at_hand >= _AT_HAND_MAX:
            raise Refusal(503, "busy", f"found {self._at_hand} requests at hand", expected="a later try")
        self._at_hand += 1
        try:
            yield
        finally:
            self._at_hand -= 1

    def _check_token(self, request: Request) -> None:
        if self._token is None:
            return
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            raise Refusal(
                401, "no token", "no valid token", field="Authorization", expected="Bearer and the door's token"
            )

    def _event_format(self, request: Request) -> Format:
        if "ce-specversion" in request.headers:
            _check_media(request, ("application/json", ""))
            return partial(read_binary, dict(request.headers))
        return _FORMATS_BY_MEDIA[_check_media(request, _FORMATS_BY_MEDIA)]

    def _mapped_format(self, request: Request) -> Format:
        name = request.path_params["mapping"]
        if name not in self._mappings:
            known = ", ".join(sorted(self._mappings)) or "none, since no mapping is declared"
            raise Refusal(404, "not found", f"found no mapping {name!r}", field="mapping", expected=known)
        _check_media(request, ("application/json",))
        return self._mappings[name].read

    def _refuse(self, refusal: Refusal) -> Response:
        self.refused[refusal.reason] += 1
        headers = _HEADERS_BY_STATUS.get(refusal.status, {})
        shown = {"error": str(refusal), "field": refusal.field, "expected": refusal.expected}
        return answer(refusal.status, shown, headers)

    async def _unknown_place(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        expected = "POST" if status == 405 else "/v1/events, /v1/alertmanager, /v1/json/{mapping} or /health"
        reason = "wrong method" if status == 405 else "not found"
        response = self._refuse(
            Refusal(status, reason, f"found {request.method} {request.url.path}", expected=expected)
        )
        response.headers.update(error.headers or {} if isinstance(error, HTTPException) else {})
        return response

    async def _gone(self, request: Request, error: Exception) -> Response:
        del request, error
        return self._refuse(Refusal(400, "sender left", "the sender left before the end of the body"))


class _Server(uvicorn.Server):
    """A server that leaves signals to the program it is a part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def answer(status: int, content: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def _events(read: Format, body: bytes, reception: Reception) -> list[Event[Payload]]:
    return [mask_event(_not_ahead(event, reception.at)) for event in read(body, reception)]


def _not_ahead(event: Event[Payload], received_at: datetime) -> Event[Payload]:
    """The event, not later than it can be: a sender's wrong clock must not lose its alert, nor turn ours."""
    if event.timestamp - received_at <= _AHEAD_MAX:
        return event
    claimed = {"claimed_timestamp": event.timestamp.isoformat()}
    return replace(event, timestamp=received_at, metadata={**event.metadata, **claimed})


def _alertmanager_format(request: Request) -> Format:
    _check_media(request, ("application/json",))
    return FORMATS["alertmanager"]


def _check_media(request: Request, known: Iterable[str]) -> str:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media in known:
        return media
    # A browser can be made to post text/plain or a form across origins, but not JSON: this check is also what keeps web
    # pages out of a door without a token.
    expected = " or ".join(filter(None, known))
    raise Refusal(415, "wrong media type", f"found {media[:80]!r}", field="Content-Type", expected=expected)
