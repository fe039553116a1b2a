"""Texts as vectors: what of a problem is embedded, and the cache before the provider."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import hypot

from pgvector import Vector

from pipeline.knowledge.connections import without_nul
from tables.embedding import DIMENSIONS
from topology.errors import ConfigurationError

Embed = Callable[[str], Sequence[float]]

TEXT_CHARS_MAX = 20_000
"""More than this says nothing new, and the full-text index has a limit of its own (1 MB of lexemes)."""
_CACHED_TEXTS = 512


def problem_text(title: str, description: str, error_patterns: Sequence[str]) -> str:
    """The text a problem is found by; `RecallProblem.text` should be made of the same parts."""
    text = "\n".join(part for part in (title, description, *error_patterns) if part)
    return without_nul(text)[:TEXT_CHARS_MAX]


class Embedding:
    """An embedding function and its provider's id; frequent texts come from a cache.

    Vectors are scaled to length 1, so that the providers' habits do not matter. Two providers are never compared: change the id
    whenever the same text would give another vector.
    """

    def __init__(self, embed: Embed, provider: str) -> None:
        self.provider = provider
        self._embed = embed
        self.vector = lru_cache(maxsize=_CACHED_TEXTS)(self._vector)
        """The vector of a text; None when it is empty of meaning to the provider, for a null vector resembles nothing."""

    def _vector(self, text: str) -> Vector | None:
        numbers = self._embed(text)
        if len(numbers) != DIMENSIONS:
            msg = f"found {len(numbers)} numbers from the embedding provider {self.provider!r}, expected {DIMENSIONS}"
            raise ConfigurationError(msg)
        length = hypot(*numbers)
        return Vector([number / length for number in numbers]) if length > 0 else None
