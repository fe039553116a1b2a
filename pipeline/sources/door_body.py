"""A request's body, read within limits, and the refusals that the door answers with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Self

from starlette.requests import Request

from pipeline.sources.formats.body import expectation
from topology.errors import BadInputError

BODY_BYTES_MAX = 5 * 1024 * 1024
_BODY_WITHIN_S = 20.0


class Refusal(Exception):  # noqa: N818 the door's word for it; it is not an error of ours
    """A request is answered with an error.

    Attributes:
        status: of the answer.
        reason: what refusals are counted by; few and constant.
        field, expected: where in the request, and what would have been right.
    """

    def __init__(self, status: int, reason: str, message: str, *, field: str = "", expected: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.field = field
        self.expected = expected

    @classmethod
    def of_input(cls, status: int, reason: str, error: BadInputError) -> Self:
        """The answer to input that cannot be understood."""
        _, expected = expectation(error)
        return cls(status, reason, str(error), field=error.field, expected=expected)


async def read_body(request: Request) -> bytes:
    """The whole body.

    Raises:
        Refusal: it is too long, comes too slowly, or is compressed.
    """
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        found = f"found a body in {encoding[:40]!r}"
        raise Refusal(415, "wrong media type", found, field="Content-Encoding", expected="identity")
    try:
        async with asyncio.timeout(_BODY_WITHIN_S):
            return await _read(request.stream(), request.headers.get("content-length", ""))
    except TimeoutError as error:
        msg = f"found no end of the body within {_BODY_WITHIN_S:g} s"
        raise Refusal(408, "too slow", msg, expected="the whole body") from error


async def _read(stream: AsyncIterator[bytes], announced: str) -> bytes:
    """The server reads on and throws away what is left of a refused body, so that its sender gets to see the answer."""
    length = int(announced[:20]) if announced.isascii() and announced.isdigit() else 0
    _check_length(length)
    body = bytearray()
    async for chunk in stream:
        body += chunk
        _check_length(len(body))
    return bytes(body)


def _check_length(length: int) -> None:
    if length > BODY_BYTES_MAX:
        found = f"found a body of {length} bytes or more"
        raise Refusal(413, "too large", found, expected=f"at most {BODY_BYTES_MAX} bytes")
