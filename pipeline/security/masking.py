"""Secrets and personal data are masked at the door, before anything is stored.

What is recognised: values of ``password=``, ``token:`` and their like (also in JSON, URLs and headers), private keys, JSON
web tokens, access keys by their vendors' prefixes, payment cards (issuer, length and check digit must fit), e-mail
addresses.  The place of each is taken by ``[masked:what]``.

Masking masked text changes nothing.  Most text is clean, so a handful of substring searches, far cheaper than one regular
expression, decide what is looked at closely; every pattern is linear in the text, whoever wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from topology.event import Event, Payload

P = TypeVar("P", bound=Payload)

_SECRET, _EMAIL, _CARD, _KEY, _TOKEN, _PRIVATE_KEY = (
    f"[masked:{what}]" for what in ("secret", "email", "card", "key", "token", "private-key")
)

_KEYWORDS = (
    "password", "passwd", "passphrase", "pwd", "secret", "token", "api_key", "api-key", "apikey", "access_key",
    "access-key", "accesskey", "private_key", "private-key", "credential", "authorization", "cookie",
)  # fmt: skip
_KEYWORD = (
    r"(?:pass(?:word|wd|phrase)|pwd|secret|token(?!s)|(?:api|access|private)[_-]?key|credentials?|authorization|cookie)"
)
_SENSITIVE_NAME = re.compile(_KEYWORD, re.IGNORECASE)

# The value ends with its quote, or else where a list, a query or a sentence goes on.  Bounded repetitions keep a text made
# of keywords from costing its length squared.
_ASSIGNED = re.compile(
    rf"""({_KEYWORD}[\w.-]{{0,32}}\\?["']?\s{{0,8}}(?:=>|[=:])\s{{0,8}})"""
    r"""((?:(?:bearer|basic|digest|token)\s{1,8}){0,2})"""
    r"""(\[masked:[a-z-]+\]|\\{1,4}["'][^"']*+["']|"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'|[^\s,;&"']+|["'][^\s,;&]+)""",
    re.IGNORECASE | re.DOTALL,
)
_QUOTE = re.compile(r"""\\{0,4}["']""")
_BEARER = re.compile(r"\b(bearer\s{1,8})[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_URL_LOGIN = re.compile(r"(?<=://)([^\s/@:\[\]]{0,64}):[^\s/@]{1,256}@")
_PEM = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL)
_JWT = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{5,}+\.[A-Za-z0-9_-]{5,}+(?:\.[A-Za-z0-9_-]*+)?")
_VENDOR_PREFIXES = (
    "AKIA",
    "ASIA",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xox",
    "sk-",
    "AIza",
    "npm_",
)
_VENDOR_KEY = re.compile(
    r"(?<![A-Za-z0-9_-])(?:(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{36,}+|github_pat_\w{22,}+|glpat-[\w-]{20,}+"
    r"|xox[abeprs]-[\w-]{10,}+|sk-[\w-]{20,}+|AIza[\w-]{35}|npm_[A-Za-z0-9]{36})(?![A-Za-z0-9_])"
)
_EMAIL_ADDRESS = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}([A-Za-z]{2,24})(?![A-Za-z0-9-])"
)
_NOT_TOP_LEVEL = frozenset({"service", "socket", "timer", "mount", "slice", "scope", "target", "device", "swap"})
"""Endings of systemd units, whose instances (``getty@tty1.service``) look like addresses."""
_CARD_NUMBER = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d.]\d|\d)")
_ISSUER = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d*|3[47]\d{13}"
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}|62\d{14,17}"
)
_MASTERCARD_DIGITS = 16

_PASSES_MAX = 8
"""A mask may uncover the beginning of what stood right after it, so masking goes on until nothing changes; two passes are
usual, more take a text made for it."""

_NEVER_MASKED = frozenset({"service", "system", "metric", "unit", "fingerprint", "level", "kind", "answer"})
"""Fields that identify: keys of streams and joins, chosen by the operator or by a program."""


def mask_text(text: str) -> str:
    """The text with every recognised secret replaced; the same object when there is none.

    NUL characters, which no text store takes, become U+FFFD.
    """
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    for _ in range(_PASSES_MAX):
        masked = _mask_once(text)
        if masked == text:
            return text
        text = masked
    return text


def mask_event(event: Event[P]) -> Event[P]:
    """The event with all texts of its payload and metadata masked; the same object when nothing was to be masked.

    Labels and annotations whose *name* says that they hold a secret lose their whole value.  Fields that identify
    (service, metric, fingerprint ...) stay as they are.
    """
    payload = _mask_payload(event.payload)
    metadata = _mask_value_of("", event.metadata)
    if payload is event.payload and metadata is event.metadata:
        return event
    return replace(event, payload=payload, metadata=metadata)


def _mask_once(text: str) -> str:
    lower = text.lower()
    if "-----begin" in lower:
        text = _PEM.sub(_PRIVATE_KEY, text)
    if "://" in text and "@" in text:
        text = _URL_LOGIN.sub(rf"\1:{_SECRET}@", text)
    if any(keyword in lower for keyword in _KEYWORDS):
        text = _ASSIGNED.sub(_mask_value, text)
    if "bearer" in lower:
        text = _BEARER.sub(rf"\1{_TOKEN}", text)
    if "eyJ" in text:
        text = _JWT.sub(_TOKEN, text)
    if any(prefix in text for prefix in _VENDOR_PREFIXES):
        text = _VENDOR_KEY.sub(_KEY, text)
    if "@" in text:
        text = _EMAIL_ADDRESS.sub(_mask_address, text)
    return _CARD_NUMBER.sub(_mask_card, text)


def _mask_payload(payload: P) -> P:
    changes = {
        name: masked
        for name, value in payload.__dict__.items()
        if name not in _NEVER_MASKED and (masked := _mask_value_of("", value)) is not value
    }
    return payload.model_copy(update=changes) if changes else payload


def _mask_value_of(name: str, value: Any) -> Any:
    """A value with its texts masked; the same object when none was.  ``name`` is the key it stands under, if any."""
    if isinstance(value, str):
        return _SECRET if name and value and _SENSITIVE_NAME.search(name) else mask_text(value)
    if isinstance(value, Mapping):
        masked = {key: _mask_value_of(str(key), inner) for key, inner in value.items()}
        return value if all(masked[key] is inner for key, inner in value.items()) else masked
    if isinstance(value, tuple | list):
        items = [_mask_value_of(name, item) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else type(value)(items)
    return _mask_payload(value) if isinstance(value, Payload) else value


def _mask_value(match: re.Match[str]) -> str:
    value = match[3]
    opening = _QUOTE.match(value)
    quote = opening[0] if opening and value.endswith(opening[0], opening.end()) else ""
    return f"{match[1]}{quote}{_SECRET}{quote}"


def _mask_address(match: re.Match[str]) -> str:
    return match[0] if match[1] in _NOT_TOP_LEVEL else _EMAIL


def _mask_card(match: re.Match[str]) -> str:
    digits = match[0].replace(" ", "").replace("-", "")
    issued = _ISSUER.fullmatch(digits)
    if not issued or (digits[0] in "25" and len(digits) != _MASTERCARD_DIGITS):
        return match[0]
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return _CARD if (doubled + sum(int(digit) for digit in digits[-1::-2])) % 10 == 0 else match[0]
