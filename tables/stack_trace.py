"""Stack traces reduced to what stays the same when the same thing goes wrong again."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PYTHON_FRAME = re.compile(r'^[ \t]*File "(?P<file>[^"\n]+)", line \d+, in (?P<function>\S+)', re.MULTILINE)
_JAVA_FRAME = re.compile(
    r"^[ \t]*at (?P<file>[\w.$/]+)\.(?P<function>[\w$<>]+)\((?:[^():\n]+\.\w+(?::\d+)?|Native Method|Unknown Source)\)",
    re.MULTILINE,
)
_NODE_FRAME = re.compile(
    r"^[ \t]*at (?:(?:async |new )?(?P<function>[\w.$<>\[\] ]+?) \()?(?P<file>(?:file:|node:|/)[^\s():]*):\d+:\d+\)?$",
    re.MULTILINE,
)

_PYTHON_ERROR = re.compile(r"^(?P<type>[A-Za-z_][\w.]*)(?:: (?P<message>.*))?$")
_OTHER_ERROR = re.compile(
    r'^(?:Exception in thread "[^"]*" |Uncaught |Caused by: )*(?P<type>[\w.$]*(?:Exception|Error|Throwable)\b)'
    r"(?:: (?P<message>.*))?$"
)

# Frames of the language and of libraries: they are the same for many problems and move with every upgrade.
_FOREIGN = re.compile(
    r"site-packages/|dist-packages/|/lib/python3|^<frozen|node_modules/|^node:|^(?:java|javax|jdk|sun)\."
)
# A log entry longer than this is not read to its end by people either.
_CHARACTERS_MAX = 100_000
_LAMBDA_NUMBER = re.compile(r"\$\$?Lambda\S*|\$\d+")


@dataclass(frozen=True, slots=True)
class StackTrace:
    """What a stack trace says, without line numbers, addresses and installation paths.

    Attributes:
        exception_type: of the exception that was not caught; empty when the text does not say.
        message: what that exception said.
        frames: ``module:function``, the outermost call first; frames of our own when there are any, else all; each
            once, so that the depth of a recursion does not matter.
    """

    exception_type: str
    message: str
    frames: tuple[str, ...]


def parse_stack_trace(text: str) -> StackTrace | None:
    """The stack trace in a text of several lines, by Python, a JVM or Node; None when there is none."""
    text = text[:_CHARACTERS_MAX]
    python = list(_PYTHON_FRAME.finditer(text))
    if python:
        named = [(match["file"], f"{_module_of(match['file'])}:{match['function']}") for match in python]
        exception_type, message = _error_after(text, python[-1].end())
        return StackTrace(exception_type, message, _own_frames(named))
    java = list(_JAVA_FRAME.finditer(text))
    if java:
        named = [(match["file"], f"{match['file']}:{match['function']}") for match in java]
    else:
        node = list(_NODE_FRAME.finditer(text))
        named = [(match["file"], f"{_module_of(match['file'])}:{match['function'] or '<anonymous>'}") for match in node]
    if not named:
        return None
    named.reverse()  # these languages write the innermost call first
    exception_type, message = _error_before(text)
    return StackTrace(exception_type, message, _own_frames(named))


def _own_frames(named: list[tuple[str, str]]) -> tuple[str, ...]:
    own = [frame for file, frame in named if not _FOREIGN.search(file)]
    frames = own or [frame for _, frame in named]
    return tuple(dict.fromkeys(_LAMBDA_NUMBER.sub("$", frame) for frame in frames))


def _module_of(file: str) -> str:
    """The last two parts of a path, without the ending: where it is installed does not matter."""
    parts = file.replace("\\", "/").split("/")[-2:]
    parts[-1] = parts[-1].rsplit(".", 1)[0] if not parts[-1].startswith("<") else parts[-1]
    return "/".join(part for part in parts if part)


def _error_after(text: str, position: int) -> tuple[str, str]:
    """Python names the exception in the first line after the frames that is not indented."""
    for line in text[position:].splitlines()[1:]:
        if line and not line[0].isspace():
            match = _PYTHON_ERROR.match(line)
            return (match["type"], match["message"] or "") if match else ("", line)
    return "", ""


def _error_before(text: str) -> tuple[str, str]:
    """Others name it above the frames, and the cause, if told, last."""
    found = ("", "")
    for line in text.splitlines():
        match = _OTHER_ERROR.match(line.strip())
        if match:
            found = (match["type"], match["message"] or "")
    return found
