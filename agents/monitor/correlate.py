"""Put findings that share a cause together: one incident per system at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from tables.keyed import Keyed
from topology.agent import Agent, AgentConfig, World
from topology.durations import Duration
from topology.event import Event
from topology.ids import derived_id
from topology.payloads.findings import AnomalyCleared, AnomalyDetected, ForecastWarned, PatternMatched, Severity
from topology.payloads.incidents import Change, IncidentOpened, IncidentResolved, IncidentUpdated, Symptom
from topology.payloads.operation import TickPassed
from topology.payloads.signals import ChangeApplied
from topology.spec import SystemSpec

Found = AnomalyDetected | PatternMatched | ForecastWarned
Input = Found | AnomalyCleared | ChangeApplied | TickPassed
Output = IncidentOpened | IncidentUpdated | IncidentResolved

_SEVERITIES: tuple[Severity, ...] = ("info", "warning", "high", "critical")


class CorrelateConfig(AgentConfig):
    """When findings become an incident, and when it is over.

    Attributes:
        systems: which services depend on which, for the reasons given.
        quiet: an incident whose pressing symptoms have been gone for so long is over.
        lapse: patterns and forecasts say when they begin but not when they end; they are taken to end after this.
        context: changes and remarks of severity ``info`` this old are still told with an incident.
        changes_max, remarks_max, symptoms_max: no more than these are kept, the oldest (or newest symptoms) dropped.
    """

    systems: Mapping[str, SystemSpec] = {}
    quiet: Duration = timedelta(seconds=5)
    lapse: Duration = timedelta(seconds=60)
    context: Duration = timedelta(minutes=10)
    changes_max: int = 20
    remarks_max: int = 20
    symptoms_max: int = 200


class Noted(BaseModel):
    """A symptom, and when it is taken to be over although nobody will say so."""

    model_config = ConfigDict(frozen=True)

    symptom: Symptom
    lapses_at: datetime | None = None


class Story(BaseModel):
    """What is going on in one system; ``incident`` is None while nothing is wrong."""

    model_config = ConfigDict(frozen=True)

    incident: UUID | None = None
    title: str = ""
    opened_at: datetime | None = None
    noted: tuple[Noted, ...] = ()
    """The incident's symptoms; without an incident, remarks that may become context."""
    changes: tuple[Change, ...] = ()


class Correlate(Agent[Input, Output]):
    """Opens an incident at the first finding of a system that is at least a warning, and follows it to its end.

    Whatever is found in the system meanwhile belongs to the incident; changes and ``info`` remarks of the last minutes
    are told with it.  Every symptom that comes, goes or comes back is one ``IncidentUpdated`` with the whole story.
    What happens after the end is a new incident, with an id derived from its own first finding.

    Remembers: one story for each system in which something happened lately.
    """

    Config = CorrelateConfig

    stories = Keyed("stories", value=Story)

    def process(self, event: Event[Input], world: World) -> Iterable[Output]:
        """A finding, a change or the passing of time in; the incident as it stands now out."""
        del world
        payload, at = event.payload, event.timestamp
        if isinstance(payload, TickPassed):
            yield from self._on_tick(at)
            return
        story = self.stories.get(payload.system) or Story()
        if isinstance(payload, ChangeApplied):
            told = self._with_change(story, payload, at)
        elif isinstance(payload, AnomalyCleared):
            told = _with_symptom_cleared(story, payload, at)
        else:
            told = self._with_finding(story, payload, event)
        if told is story:
            return
        self.stories.put(payload.system, told)
        if told.incident is not None:
            yield self._as_it_stands(
                IncidentOpened if story.incident is None else IncidentUpdated, payload.system, told
            )

    def _with_change(self, story: Story, change: ChangeApplied, at: datetime) -> Story:
        config: CorrelateConfig = self.config
        added = Change(
            service=change.service,
            change=change.change,
            kind=change.kind,
            summary=change.summary,
            reversible=change.reversible,
            at=at,
        )
        return story.model_copy(update={"changes": (*story.changes, added)[-config.changes_max :]})

    def _with_finding(self, story: Story, found: Found, event: Event[Input]) -> Story:
        config: CorrelateConfig = self.config
        at = event.timestamp
        lapses_at = None if isinstance(found, AnomalyDetected) else at + config.lapse
        position = _position_of(story, found)
        if position is None:
            if story.incident is not None and len(story.noted) >= config.symptoms_max:
                return story
            noted = (*story.noted, Noted(symptom=_symptom_of(found, at), lapses_at=lapses_at))
        else:
            known = story.noted[position].symptom
            severity = max(known.severity, found.severity, key=_SEVERITIES.index)
            again = known.model_copy(update={"cleared_at": None, "severity": severity})
            if again == known:
                return story
            noted = _replaced(story.noted, position, Noted(symptom=again, lapses_at=lapses_at))
        if story.incident is not None:
            return story.model_copy(update={"noted": noted})
        if found.severity == "info":
            return story.model_copy(update={"noted": noted[-config.remarks_max :]})
        opened = {
            "incident": derived_id("incident", found.system, event.id),
            "title": found.summary or f"{found.service}: {found.kind}",
            "opened_at": at,
            "noted": tuple(
                n for n in noted if n.symptom.severity != "info" or n.symptom.seen_at >= at - config.context
            ),
            "changes": tuple(c for c in story.changes if c.at >= at - config.context),
        }
        return story.model_copy(update=opened)

    def _on_tick(self, now: datetime) -> Iterable[Output]:
        config: CorrelateConfig = self.config
        for system, story in self.stories.items():
            lapsed = _with_lapses(story, now)
            if lapsed.incident is None:
                fresh = _without_old_context(lapsed, now - config.context)
                if fresh is None:
                    self.stories.delete(system)
                elif fresh is not story:
                    self.stories.put(system, fresh)
                continue
            seen = self._as_it_stands(IncidentUpdated, system, lapsed)
            if not seen.pressing_symptoms and now - _calm_since(seen) >= config.quiet:
                self._end(system, lapsed, calm_since=_calm_since(seen))
                yield IncidentResolved(**dict(seen), resolved_at=now)
            elif lapsed is not story:
                self.stories.put(system, lapsed)
                yield seen

    def _end(self, system: str, story: Story, calm_since: datetime) -> None:
        # The system was healthy after the changes before, so they do not explain what comes next.  What was changed when it
        # had just become calm has yet to show what it does.
        changes = tuple(change for change in story.changes if change.at > calm_since)
        if changes:
            self.stories.put(system, Story(changes=changes))
        else:
            self.stories.delete(system)

    def _as_it_stands(
        self, kind: type[IncidentOpened] | type[IncidentUpdated], system: str, story: Story
    ) -> IncidentOpened | IncidentUpdated:
        symptoms = tuple(noted.symptom for noted in story.noted)
        return kind.model_validate(
            {
                "incident": story.incident,
                "system": system,
                "title": story.title,
                "severity": max((s.severity for s in symptoms), key=_SEVERITIES.index),
                "opened_at": story.opened_at,
                "symptoms": symptoms,
                "changes": story.changes,
                "why": self._why(system, symptoms),
            }
        )

    def _why(self, system: str, symptoms: tuple[Symptom, ...]) -> str:
        services = list(dict.fromkeys(symptom.service for symptom in symptoms))
        if len(services) == 1:
            return f"all symptoms are of {services[0]}"
        declared = self.config.systems.get(system, SystemSpec()).services
        edges = [
            f"{service} depends on {other}"
            for service in services
            for other in (declared[service].depends_on if service in declared else ())
            if other in services
        ]
        return "; ".join(edges) if edges else f"{', '.join(services)} belong to the system {system}"


def _symptom_of(found: Found, at: datetime) -> Symptom:
    return Symptom(
        service=found.service,
        kind=found.kind,
        subject=found.subject,
        severity=found.severity,
        summary=found.summary,
        seen_at=at,
    )


def _with_symptom_cleared(story: Story, cleared: AnomalyCleared, at: datetime) -> Story:
    position = _position_of(story, cleared)
    if position is None or story.noted[position].symptom.cleared_at is not None:
        return story
    if story.incident is None:  # a remark that is over is no context any more
        return story.model_copy(update={"noted": (*story.noted[:position], *story.noted[position + 1 :])})
    over = story.noted[position].symptom.model_copy(update={"cleared_at": at})
    return story.model_copy(update={"noted": _replaced(story.noted, position, Noted(symptom=over))})


def _with_lapses(story: Story, now: datetime) -> Story:
    if not any(noted.lapses_at is not None and noted.lapses_at <= now for noted in story.noted):
        return story
    noted = tuple(
        Noted(symptom=n.symptom.model_copy(update={"cleared_at": n.lapses_at}))
        if n.lapses_at is not None and n.lapses_at <= now
        else n
        for n in story.noted
    )
    return story.model_copy(update={"noted": noted})


def _without_old_context(story: Story, oldest: datetime) -> Story | None:
    """The story without what is too old; the same one when nothing is, None when nothing is left."""
    noted = tuple(n for n in story.noted if n.symptom.seen_at >= oldest)
    changes = tuple(c for c in story.changes if c.at >= oldest)
    if not noted and not changes:
        return None
    if len(noted) == len(story.noted) and len(changes) == len(story.changes):
        return story
    return story.model_copy(update={"noted": noted, "changes": changes})


def _calm_since(seen: IncidentOpened | IncidentUpdated) -> datetime:
    """When the last telling symptom cleared."""
    return max(symptom.cleared_at or symptom.seen_at for symptom in seen.telling_symptoms)


def _position_of(story: Story, finding: Found | AnomalyCleared) -> int | None:
    for position, noted in enumerate(story.noted):
        symptom = noted.symptom
        if (symptom.service, symptom.kind, symptom.subject) == finding.symptom:
            return position
    return None


def _replaced(noted: tuple[Noted, ...], position: int, by: Noted) -> tuple[Noted, ...]:
    return (*noted[:position], by, *noted[position + 1 :])
