"""A make-believe patient in virtual time: what each fault looks like from outside, and what cures it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from agents.ports import ExecuteAction, ExecutionReport, RecallProblem, Recollection, SolutionRecord
from topology.payloads.healing import ActionRequest
from topology.payloads.lessons import ExperienceRecorded
from topology.payloads.signals import ChangeApplied, HeartbeatSeen, LogWritten, MetricSampled, Signal

FAULTS = ("crash", "hang", "leak", "bad-config", "eater", "backend-lost")

_ANSWERS = {"crash": "refused", "hang": "timeout", "bad-config": "http_500", "backend-lost": "http_503"}
_CURES = {
    "crash": {("restart", "ledger")},
    "hang": {("restart", "ledger")},
    "leak": {("restart", "ledger")},
    "bad-config": {("rollback", "ledger")},
    "eater": {("stop", "ledger-report")},
    "backend-lost": {("restart", "ledger-store")},
}


@dataclass
class Patient:
    """Answers probes every half second; a probe that times out takes a second."""

    fault: str = ""
    since: float = 0.0
    probed_at: float = 0.0
    requests: list[ActionRequest] = field(default_factory=list)
    done: dict[str, ExecutionReport] = field(default_factory=dict)

    def fall_ill(self, fault: str, now: float) -> Iterator[Signal]:
        """Begin a fault; what is announced of it."""
        self.fault, self.since = fault, now
        if fault == "bad-config":
            yield ChangeApplied(
                service="ledger", change="version 2", kind="configuration", summary="fees raised", reversible=True
            )

    def execute(self, question: ExecuteAction) -> ExecutionReport:
        """Do what is asked, once per key."""
        if question.idempotency_key not in self.done:
            request = question.request
            self.requests.append(request)
            if (request.operation, request.target) in _CURES.get(self.fault, set()):
                self.fault = ""
            undo = None
            if request.operation == "stop":
                undo = request.model_copy(update={"operation": "start"})
            self.done[question.idempotency_key] = ExecutionReport(status="succeeded", detail="done", undo=undo)
        return self.done[question.idempotency_key]

    def telemetry(self, now: float) -> Iterator[Signal]:
        """What is said in the half second or so that ends now."""
        yield from self._heartbeats(now)
        resident = 30e6 + (40e6 * (now - self.since) if self.fault == "leak" else 0.0)
        yield MetricSampled(service="ledger", metric="process.memory.usage", value=min(resident, 280e6), unit="By")
        yield LogWritten(service="ledger", message=f"INFO ledger served requests n={int(now * 10)}", level="info")
        if self.fault in {"bad-config", "backend-lost"}:
            for number in range(2):
                message = f"transfer {int(now * 1000) + number} failed: {self.fault} status={500 + number}"
                yield LogWritten(service="ledger", message=message, level="error")

    def _heartbeats(self, now: float) -> Iterator[Signal]:
        answer = _ANSWERS.get(self.fault, "ok")
        if answer != "timeout" or now >= self.probed_at + 1.0:
            self.probed_at = now
            latency_ms = 380.0 if self.fault == "eater" else 9.0
            yield HeartbeatSeen(service="ledger", healthy=answer == "ok", answer=answer, latency_ms=latency_ms)
        store = "refused" if self.fault == "backend-lost" else "ok"
        # The backend is probed after the service, so its loss is seen half a second later.
        if store == "ok" or now > self.since + 0.5:
            yield HeartbeatSeen(service="ledger-store", healthy=store == "ok", answer=store, latency_ms=2.0)


@dataclass
class Experience:
    """What Postgres would know: counts of experiences by problem, solution and target."""

    counts: dict[tuple[str, str, str], list[int]] = field(default_factory=dict)

    def learn(self, experience: ExperienceRecorded) -> None:
        """Count an experience."""
        found = self.counts.setdefault((experience.problem, experience.solution, experience.target), [0, 0])
        found[0] += experience.succeeded
        found[1] += 1

    def recall(self, question: RecallProblem) -> Recollection:
        """Everything known: of this problem, and of the others as if they were rather similar."""
        records = tuple(
            SolutionRecord(
                problem=problem,
                solution=solution,
                target=target,
                successes=successes,
                trials=trials,
                similarity=1.0 if problem == question.problem else 0.7,
            )
            for (problem, solution, target), (successes, trials) in sorted(self.counts.items())
        )
        return Recollection(known=any(record.problem == question.problem for record in records), records=records)
