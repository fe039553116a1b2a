"""The store's slots serve in order of arrival."""

from __future__ import annotations

from threading import Thread

from pipeline.patient.store import Slots
from tests.polling import wait_until


def test_who_waits_longest_is_served_first_and_nobody_overtakes() -> None:
    slots = Slots(1)
    served: list[int] = []

    def visit(number: int) -> None:
        with slots.held():
            served.append(number)

    visitors = [Thread(target=visit, args=(number,)) for number in range(5)]
    with slots.held():
        for number, visitor in enumerate(visitors, start=1):
            visitor.start()
            wait_until(lambda number=number: slots.waiting == number, saying=f"{number} wait")  # type: ignore[misc]
    for visitor in visitors:
        visitor.join()

    assert served == [0, 1, 2, 3, 4]
    assert slots.waiting == 0


def test_waiting_is_measured() -> None:
    slots = Slots(2)

    with slots.held() as first, slots.held() as second:
        assert first < 0.1
        assert second < 0.1
