"""What every executor promises, and who answers ``ExecuteAction``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from agents.ports import ExecuteAction, ExecutionReport
from topology.payloads.healing import ActionRequest


class Executor(Protocol):
    """Carries out operations of one kind on one kind of target."""

    @property
    def name(self) -> str:
        """What requests call it."""

    @property
    def operations(self) -> frozenset[str]:
        """What it can do; anything else is refused."""

    async def execute(self, request: ActionRequest, idempotency_key: str) -> ExecutionReport:
        """Do it once per key, and say what takes it back.

        ``failed`` means that it was tried; whatever cannot be tried is ``refused``.

        Raises:
            RetryableError: the target could not be reached; trying again under the same key is safe.
        """

    async def preview(self, request: ActionRequest) -> str:
        """What ``execute`` would do, in words; changes nothing."""

    async def close(self) -> None:
        """Give back what the executor holds."""


class Executors:
    """All executors of a deployment, by name.  What is not here cannot be done."""

    def __init__(self, executors: Iterable[Executor] = ()) -> None:
        self._executors: dict[str, Executor] = {}
        for executor in executors:
            self.add(executor)

    def add(self, executor: Executor) -> None:
        """Make one more known; a later one replaces an earlier one of the same name."""
        self._executors[executor.name] = executor

    async def answer(self, question: ExecuteAction) -> ExecutionReport:
        """Answer ``ExecuteAction``; default deny."""
        request = question.request
        executor = self._executors.get(request.executor)
        if executor is None:
            known = ", ".join(sorted(self._executors)) or "none"
            return _refused(f"found executor {request.executor!r}, expected one that is set up here: {known}")
        if request.operation not in executor.operations:
            possible = ", ".join(sorted(executor.operations))
            return _refused(f"{request.executor} cannot {request.operation!r}, only {possible}")
        if question.dry_run:
            return _refused(f"dry run; it would: {await executor.preview(request)}")
        return await executor.execute(request, question.idempotency_key)

    async def close(self) -> None:
        """Close all of them."""
        for executor in self._executors.values():
            await executor.close()


def _refused(detail: str) -> ExecutionReport:
    return ExecutionReport(status="refused", detail=detail)
