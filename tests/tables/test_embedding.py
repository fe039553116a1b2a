"""Text as vectors, without a model."""

from __future__ import annotations

import math

import pytest

from tables.embedding import DIMENSIONS, PROVIDER, embed, similarity


def test_every_text_has_a_vector_of_the_stores_width_and_of_unit_length() -> None:
    for text in ("", "42", "!!!", "ledger stopped", "größer als 漢字", "word " * 10_000, "ünïcödé" * 100):
        vector = embed(text)
        assert len(vector) == DIMENSIONS == 1536
        assert math.isclose(math.hypot(*vector), 1.0, rel_tol=1e-9)


def test_a_vector_is_the_same_in_every_process_and_for_ever() -> None:
    """Stored vectors are compared with new ones: whoever changes this changes ``PROVIDER``."""
    vector = embed("pool exhausted")
    occupied = {slot: round(weight, 4) for slot, weight in enumerate(vector) if weight}
    assert PROVIDER == "hashed-1536:v1"
    assert len(occupied) == 16
    assert min(occupied.items()) == (46, 0.1786)


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("connection pool exhausted", "exhausted the connection pool", "disk is full"),
        ("store unreachable: connection refused", "connection to store refused", "memory usage grows"),
        ("OutOfMemoryError in worker", "worker ran out of memory: error", "certificate has expired"),
        ("request took 1200 ms", "request took 7 ms", "report finished"),
    ],
)
def test_shared_vocabulary_brings_texts_together(text: str, near: str, far: str) -> None:
    assert similarity(embed(text), embed(near)) > 2 * similarity(embed(text), embed(far))


def test_case_and_camel_humps_do_not_matter() -> None:
    assert similarity(embed("ConnectionPool"), embed("connection pool")) > 0.99


def test_numbers_do_not_tell_texts_apart() -> None:
    assert embed("worker 12 died") == embed("worker 99 died")


def test_that_there_is_a_number_is_seen_a_little() -> None:
    assert 0.95 < similarity(embed("7 took"), embed("took")) < 0.999


def test_vectors_of_different_providers_are_not_compared() -> None:
    with pytest.raises(ValueError, match="compare only vectors of one provider"):
        similarity(embed("a"), [1.0])
