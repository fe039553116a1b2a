"""What makes two problems the same problem.

A fingerprint rests on the most telling evidence there is: an explicit name, else a stack trace, else the type of an
exception and the template of its message, else the template of a log line, else the kind of the symptom and the
service it came from.  The version of the method is part of the fingerprint; a new method gets a new version and applies
to new problems only, so that what was learned is not lost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from tables.stack_trace import StackTrace, parse_stack_trace

VERSION = "fp:v1"

Basis = Literal["explicit", "stack", "exception", "log", "symptom"]
"""What a fingerprint rests on, the most telling first."""

# A message longer than this is a dump; what tells problems apart stands at its beginning.
_TEMPLATE_CHARACTERS_MAX = 2000

# One pass over the text; the first alternative that fits wins.  Quotes around a placeholder, or next to one, are not
# taken for a quoted string, so that a template is its own template.
_VARIABLE = re.compile(
    r"""
    (?P<keep>\b(?:status|code|errno|exit|signal)(?:\s+(?:status|code|with))*\s*[=:]?\s*-?\d{1,3}\b(?![\w.:-]))
  | (?P<str>"(?:[^"\\<]|\\[^<])*"|(?<![\w>'])'(?:[^'\\<]|\\[^<])*'(?![\w<'])|`[^`<]*`)
  | (?P<uuid>\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b)
  | (?P<time>\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?|\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b)
  | (?P<ip>\b\d{1,3}(?:\.\d{1,3}){3}(?:[:/]\d+)?\b
        | (?<![\w:])(?=[a-fA-F:]*\d)[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}(?![\w:]))
  | (?P<hex>\b0[xX][0-9a-fA-F]+\b|\b(?=[a-fA-F]*\d)(?=\d*[a-fA-F])[0-9a-fA-F]{7,}\b)
  | (?P<num>(?<![A-Za-z\d])[-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?|\d+)
    """,
    re.VERBOSE,
)
_BLANKS = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a problem when it must be named; leave out what is not known.

    Attributes:
        explicit: a name somebody gave on purpose, such as a rule's or an alert's own fingerprint.
        stack: the text of a stack trace, or a log entry that contains one.
        exception_type, message: of an exception whose stack is not known.
        log: the line, or its template, that says what is wrong.
        symptom, service: the kind of the leading symptom, and the service that is the root cause.
    """

    explicit: str = ""
    stack: str = ""
    exception_type: str = ""
    message: str = ""
    log: str = ""
    symptom: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The identity of a problem.

    Attributes:
        id: ``fp:v1:<32 hex digits>``; equal for the same problem, on every machine and in every process.
        basis: what it rests on.
        text: what was hashed, for people.
    """

    id: str
    basis: Basis
    text: str


def fingerprint(evidence: Evidence) -> Fingerprint:
    """Name a problem by the most telling evidence there is.

    Raises:
        ValueError: there is no evidence at all, so every such problem would be the same one.
    """
    if evidence.explicit.strip():
        return _made("explicit", evidence.explicit.strip())
    trace = parse_stack_trace(evidence.stack) if evidence.stack else None
    if trace is not None:
        return _made("stack", "\n".join((_type_of(trace, evidence), *trace.frames)))
    if evidence.exception_type:
        return _made("exception", f"{evidence.exception_type}\n{template_of(evidence.message)}".strip())
    line = evidence.log or evidence.stack
    if line.strip():
        return _made("log", template_of(line))
    if evidence.symptom:
        return _made("symptom", f"{evidence.symptom}\n{evidence.service}".strip())
    msg = "found no evidence to name the problem by; give at least the kind of the symptom"
    raise ValueError(msg)


def template_of(text: str) -> str:
    """A message with its variable parts replaced by what they are; masking a template again changes nothing.

    Numbers that say how something failed stay: exit codes, signals and status codes tell problems apart.

    Example:
        >>> template_of("worker-12: GET /accounts/4711 from 10.0.0.7:5123 took 1.25s, status=503")
        'worker-<num>: GET /accounts/<num> from <ip> took <num>s, status=503'
    """
    line = _BLANKS.sub(" ", text[:_TEMPLATE_CHARACTERS_MAX]).strip()
    return _VARIABLE.sub(_placeholder, line)[:_TEMPLATE_CHARACTERS_MAX].rstrip()


def _placeholder(match: re.Match[str]) -> str:
    return match[0] if match.lastgroup == "keep" else f"<{match.lastgroup}>"


def _type_of(trace: StackTrace, evidence: Evidence) -> str:
    return trace.exception_type or evidence.exception_type


def _made(basis: Basis, text: str) -> Fingerprint:
    # The basis is hashed too: a log line that reads like a symptom is still another problem.
    digest = sha256(f"{VERSION}\n{basis}\n{text}".encode()).hexdigest()[:32]
    return Fingerprint(f"{VERSION}:{digest}", basis, text)
