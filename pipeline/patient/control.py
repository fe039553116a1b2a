"""The host's control API: what an operator can do to the machine, over HTTP on loopback.

    GET  /units                                     all units
    POST /units/{name}/start|stop|restart|kill      synchronous, idempotent; answers the unit
    GET  /configuration/{unit}                      current version, the ones before it
    POST /configuration/{unit}                      {"version": n}: deploy that version
    POST /configuration/{unit}/rollback             deploy the version before
    GET  /traffic                                   the customers' experience (for the trial)
    POST /faults/{name}|heal                        the hand of fate (for the trial)

Every request carries `Authorization: Bearer TOKEN`.  A POST to units or configuration may carry `Idempotency-Key`.
"""

from __future__ import annotations

import hmac
from functools import partial

from pipeline.patient.answers import AnsweredOnce
from pipeline.patient.fate import Fate
from pipeline.patient.loopback import Answer, Document, Request, RequestRefusedError
from pipeline.patient.machine import WEB, Machine


class Control:
    """Answers control requests."""

    def __init__(self, machine: Machine, fate: Fate, answers: AnsweredOnce, token: str) -> None:
        self._machine = machine
        self._fate = fate
        self._answers = answers
        self._expected = f"Bearer {token}".encode()

    def respond(self, request: Request) -> Answer:
        """Answer one request."""
        given = request.headers.get("Authorization") or ""
        if not hmac.compare_digest(given.encode(), self._expected):
            raise RequestRefusedError(
                401, "the request carries no valid `Authorization: Bearer ...`: the token is in patient.json"
            )
        match request.method, *request.path.strip("/").split("/"):
            case "GET", "units":
                return Answer(200, self._machine.supervisor.units())
            case "GET", "traffic":
                return Answer(200, self._machine.customers.described())
            case "GET", "configuration", unit:
                self._check_configured(unit)
                return Answer(200, self._machine.deployer.described())
            case "POST", "faults", "heal":
                return Answer(200, self._fate.heal())
            case "POST", "faults", fault:
                return Answer(200, self._fate.strike(fault))
            case "POST", "units", name, verb:
                return self._answers.answer(request, dict, lambda _: self._machine.operate(name, verb))
            case "POST", "configuration", unit, *rest:
                self._check_configured(unit)
                return self._answers.answer(request, partial(self._resolve, request, rest), self._deploy)
            case _:
                raise RequestRefusedError(
                    404, f"{request.method} {request.path} is unknown, see pipeline.patient.control"
                )

    def _check_configured(self, unit: str) -> None:
        if unit != WEB:
            self._machine.supervisor.unit(unit)
            raise RequestRefusedError(404, f"unit {unit} has no configuration, only {WEB} has one")

    def _resolve(self, request: Request, rest: list[str]) -> Document:
        """Say which version is meant and which one was current, so that doing it twice is doing it once."""
        deployer = self._machine.deployer
        if rest == ["rollback"]:
            version = deployer.version_before()
        elif not rest:
            version = _version_asked_for(request)
        else:
            raise RequestRefusedError(404, f"{request.path} is unknown, expected /configuration/{WEB} or .../rollback")
        return {"version": version, "undo": {"version": deployer.version}}

    def _deploy(self, resolved: Document) -> Document:
        return {**self._machine.deployer.go_to(resolved["version"]), "undo": resolved["undo"]}


def _version_asked_for(request: Request) -> int:
    version = request.body.get("version")
    if isinstance(version, bool) or not isinstance(version, int):
        raise RequestRefusedError(400, f"version is {version!r}, expected a number")
    return version
