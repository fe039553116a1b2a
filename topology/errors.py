"""The errors of the product, by what the caller should do.

    AiopsError
    |- UsageError                 the command line was wrong: read the help
    |- ConfigurationError         fix a setting or a topology; found before anything runs
    |  `- TopologyError           fix the wiring
    |- BadInputError              somebody sent what cannot be understood; refuse it and tell them
    |  |- UnknownEventTypeError
    |  `- InvalidEventError
    |- RetryableError             try again with back-off; the engine does
    |- PoisonedEventError         this event can never succeed; dead-letter it
    `- RefusedError               a policy said no; never retry

Packages further left add their own below these (``pipeline.engine`` knows ``FencedError``, for example).  A message
says what was found, what was expected, and what to do.
"""

from __future__ import annotations


class AiopsError(Exception):
    """Root of every error the product raises on purpose."""


class UsageError(AiopsError):
    """A command was called in a way it does not understand."""


class ConfigurationError(AiopsError):
    """A setting or a declaration is wrong; nothing was started."""


class TopologyError(ConfigurationError):
    """Stages, streams or event types do not fit together."""


class BadInputError(AiopsError):
    """Input from outside cannot be understood.

    Attributes:
        field: where in the input, as a dotted path; empty when the whole is meant.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field


class InvalidEventError(BadInputError):
    """An event's envelope or payload breaks its schema."""


class UnknownEventTypeError(BadInputError):
    """No payload class is registered for an event type, or not for this version of it."""


class RetryableError(AiopsError):
    """The world was not ready; the same call may succeed later."""


class PoisonedEventError(AiopsError):
    """This event can never be processed; it belongs into the dead letters."""


class RefusedError(AiopsError):
    """A policy forbids it; asking again changes nothing."""
