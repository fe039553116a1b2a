"""Questions agents put to the world.

A question is a value that knows the type of its answer.  So the engine can record both under the event in hand, answer
a redelivery from the record, and let a backtest answer from a recording or a simulation: Law 4, an answer once given
is never asked for again.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

A = TypeVar("A", bound=BaseModel)


class Question(BaseModel, Generic[A]):
    """Base of all questions: ``class RecallProblem(Question[Recollection])``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def answer_type(cls) -> type[A]:
        """The model of the answer, from the class's type argument."""
        for base in cls.__mro__:
            generic: dict[str, Any] = getattr(base, "__pydantic_generic_metadata__", {})
            if generic.get("origin") is Question:
                answer: type[A] = generic["args"][0]
                return answer
        msg = f"{cls.__name__} does not say its answer; derive it from Question[TheAnswer]"
        raise TypeError(msg)
