"""What could be tried for a problem: declared solutions aimed at targets, with what is known of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from agents.diagnostic.root_cause import Services
from agents.ports import Recollection, SolutionRecord
from topology.payloads.diagnoses import Candidate
from topology.payloads.healing import ActionRequest
from topology.payloads.incidents import Change
from topology.spec import SolutionSpec


def candidates_for(
    problem: str,
    kind: str,
    root: str,
    *,
    solutions: Sequence[SolutionSpec],
    services: Services,
    changes: Sequence[Change],
    recollection: Recollection,
) -> tuple[Candidate, ...]:
    """Every solution for this kind of symptom, aimed at each of its targets, in declared order.

    Where this very problem was treated before, only that experience counts: what cured something alike is a good guess
    for the unknown, and a bad one against the known.  Otherwise experience with similar problems counts by similarity.
    """
    exact = [record for record in recollection.records if record.problem == problem and record.trials]
    records = exact or [record for record in recollection.records if record.problem != problem]
    found: list[Candidate] = []
    for solution in solutions:
        if not any(fnmatchcase(kind, pattern) for pattern in solution.kinds):
            continue
        for target in _targets(solution, root, services, changes):
            successes, trials = _experience(records, solution.id, target)
            found.append(
                Candidate(
                    solution=solution.id,
                    title=f"{solution.title}: {target}",
                    request=ActionRequest(
                        executor=solution.executor,
                        operation=solution.operation,
                        target=target,
                        parameters=solution.parameters,
                    ),
                    successes=successes,
                    trials=trials,
                    cost=solution.cost,
                    risk=solution.risk,
                    reversible=solution.reversible,
                    proven=bool(exact) and successes > 0,
                )
            )
    return tuple(found)


def _targets(solution: SolutionSpec, root: str, services: Services, changes: Sequence[Change]) -> Iterable[str]:
    if solution.target == "root":
        return [root]
    if solution.target == "dependencies":
        spec = services.get(root)
        return spec.depends_on if spec else ()
    if solution.target == "batch":
        return [service for service, spec in services.items() if spec.kind == "batch"]
    latest_first = reversed(changes)
    return dict.fromkeys(change.service for change in latest_first if change.reversible)


def _experience(records: Iterable[SolutionRecord], solution: str, target: str) -> tuple[float, float]:
    matching = [record for record in records if record.solution == solution and record.target == target]
    successes = sum(record.successes * record.similarity for record in matching)
    trials = sum(record.trials * record.similarity for record in matching)
    return round(successes, 6), round(trials, 6)
