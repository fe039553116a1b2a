"""JSON over HTTP on loopback: the one way the patient's processes talk, with the standard library only."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from email.message import Message
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
BODY_BYTES_MAX = 64 * 1024
ACCEPT_QUEUE_MAX = 128
"""Connections the kernel accepts on behalf of a process that does not; a hung service still *connects*."""

Document = dict[str, Any]


class Request(NamedTuple):
    """One request, its body already parsed; a request without a body has an empty one."""

    method: str
    path: str
    headers: Message[str, str]
    body: Document


class Answer(NamedTuple):
    """A status and the JSON that goes with it; an answer of the other side that is not JSON counts as `{}`."""

    status: int
    document: Any


class RequestRefusedError(Exception):
    """A request that is answered with an error on purpose: `status` (4xx or 5xx) and the reason as its message."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status

    def answer(self) -> Answer:
        """As it goes over the wire."""
        return Answer(self.status, {"error": str(self)})


class NoAnswerError(Exception):
    """No answer came: refused, timed out, or cut off.  The message says which."""


class LoopbackServer(ThreadingHTTPServer):
    """Answers every request by one function, each in a thread of its own; one request per connection.

    A `RequestRefusedError` raised by the function becomes its answer.  Any other exception is a bug: it goes to stderr and the
    connection is cut.  `admit` is called in the accepting thread before each connection is served.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = ACCEPT_QUEUE_MAX

    def __init__(
        self, port: int, respond: Callable[[Request], Answer], *, admit: Callable[[], None] = lambda: None
    ) -> None:
        self.respond = respond
        self._admit = admit
        super().__init__((LOOPBACK, port), _Handler)

    def server_bind(self) -> None:
        """Bind without asking DNS for our own name, which the standard server does and which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, int(self.server_address[1])

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Let everybody in, once `admit` has returned."""
        self._admit()
        return True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet about callers that went away; report everything else."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: LoopbackServer
    timeout = 5.0  # seconds for a caller to finish its sentence

    def _answer(self) -> None:
        try:
            answer = self.server.respond(Request(self.command, self.path, self.headers, self._body()))
        except RequestRefusedError as refusal:
            answer = refusal.answer()
        content = json.dumps(answer.document).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _answer  # noqa: N815 - the standard library finds the methods by these names

    def _body(self) -> Document:
        declared = self.headers.get("Content-Length", "0")
        if not declared.isdecimal():
            raise RequestRefusedError(400, f"Content-Length is {declared!r}, expected a number of bytes")
        if int(declared) > BODY_BYTES_MAX:
            raise RequestRefusedError(413, f"the body has {declared} bytes, expected at most {BODY_BYTES_MAX}")
        content = self.rfile.read(int(declared))
        try:
            body = json.loads(content or b"{}")
        except ValueError as error:
            raise RequestRefusedError(400, f"the body is not JSON: {error}") from error
        if not isinstance(body, dict):
            raise RequestRefusedError(400, f"the body is a JSON {type(body).__name__}, expected an object")
        return body

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the standard library's
        """Silence: the services write their own access summary."""


def ask(
    port: int,
    method: str,
    path: str,
    document: Document | None = None,
    *,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
    host: str = LOOPBACK,
) -> Answer:
    """Send one request on a connection of its own and wait for the answer.

    Args:
        timeout_s: for each step (connect, send, each read), so an answer that trickles may take longer.

    Raises:
        NoAnswerError: there was no answer, or it was not HTTP.
    """
    connection = HTTPConnection(host, port, timeout=timeout_s)
    content = None if document is None else json.dumps(document).encode()
    sent = {"Content-Type": "application/json", **(headers or {})}
    try:
        connection.request(method, path, content, sent)
        response = connection.getresponse()
        received = response.read()
    except (OSError, HTTPException) as error:
        raise NoAnswerError(f"{method} {path} on {host}:{port}: {str(error) or type(error).__name__}") from error
    finally:
        connection.close()
    return Answer(response.status, _parsed(received))


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return {}  # a page for humans, or no body: the status says what matters


class Endpoint(NamedTuple):
    """Where an `http://` URL leads."""

    host: str
    port: int
    path: str


def endpoint(url: str) -> Endpoint:
    """Take a URL apart.

    Raises:
        ValueError: it is not a plain `http://` URL with a host.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"{url!r} is not an http:// URL with a host, such as http://127.0.0.1:8080/cloudevents")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Endpoint(parts.hostname, parts.port or 80, path)
