"""A key is obeyed once, also when the host dies at the worst moment."""

from __future__ import annotations

from email.message import Message
from pathlib import Path

import pytest

from pipeline.patient.answers import KEYS_MAX, AnsweredOnce
from pipeline.patient.loopback import Answer, Document, Request


class Died(BaseException):
    """The host, in the middle of it."""


def _request(key: str) -> Request:
    headers: Message[str, str] = Message()
    headers["Idempotency-Key"] = key
    return Request("POST", "/configuration/ledger/rollback", headers, {})


def test_a_host_that_died_before_answering_finishes_the_very_same_thing_when_the_key_comes_again(
    tmp_path: Path,
) -> None:
    done: list[Document] = []

    def die_after_doing(resolved: Document) -> Document:
        done.append(resolved)
        raise Died

    def do(resolved: Document) -> Document:
        done.append(resolved)
        return resolved

    with pytest.raises(Died):
        AnsweredOnce(tmp_path / "answers.json").answer(_request("k"), lambda: {"version": 2}, die_after_doing)

    # By now the version before is another one; the key still means the one it meant.
    after = AnsweredOnce(tmp_path / "answers.json").answer(_request("k"), lambda: {"version": 1}, do)

    assert after == Answer(200, {"version": 2})
    assert done == [{"version": 2}, {"version": 2}]


def test_only_the_last_keys_are_remembered(tmp_path: Path) -> None:
    answers = AnsweredOnce(tmp_path / "answers.json")
    answers._records = {f"old-{number}": {} for number in range(KEYS_MAX)}

    answers.answer(_request("new"), dict, lambda _: {"done": True})

    assert len(answers._records) == KEYS_MAX
    assert "old-0" not in answers._records
    assert "new" in AnsweredOnce(tmp_path / "answers.json")._records
