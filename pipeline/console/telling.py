"""A story in words: one line per fact, in the order they became known."""

from __future__ import annotations

from datetime import datetime

from pipeline.console.story import Step, Story
from topology.payloads import ExperienceRecorded


def headline(story: Story) -> str:
    """What happened, and how it stands."""
    state = "resolved" if story.resolved_at else f"{len(story.now.open_symptoms)} symptom(s) open"
    return f"{clock(story.heard_at)} {story.system}: {story.now.title} · {story.now.severity} · {state}"


def facts(story: Story) -> list[str]:
    """Everything known about an incident, one line each; a later call repeats the earlier lines and adds to them."""
    lines = [f"seen       {s.service} {s.kind}: {s.summary or s.kind}" for s in story.now.symptoms]
    lines += [f"changed    {c.service} {c.kind} {c.change}: {c.summary}" for c in story.now.changes]
    diagnosis = story.diagnosis
    if diagnosis is not None:
        known = "known problem" if diagnosis.recalled else "new problem"
        lines.append(f"concluded  {diagnosis.title} ({known}, confidence {diagnosis.confidence:.0%})")
    for step in story.steps:
        lines += _step_facts(step)
    if story.resolved_at is not None:
        lines.append(f"resolved   {(story.resolved_at - story.heard_at).total_seconds():.1f} s after it was noticed")
    return lines


def clock(moment: datetime) -> str:
    """The time of day where the reader is."""
    return f"{moment.astimezone():%H:%M:%S}"


def _step_facts(step: Step) -> list[str]:
    plan = step.plan
    what = f"{plan.request.operation} {plan.request.target}"
    if plan.undo_of is not None:
        lines = [f"undoing    {what}"]
    else:
        helped = round((plan.success_rate or 0) * plan.experiences)
        experience = f", helped {helped} of {plan.experiences} times" if plan.experiences else ""
        lines = [f"trying     {what} (attempt {plan.attempt}, {plan.autonomy}{experience})"]
    if step.finished is not None and step.finished.status != "succeeded":
        lines.append(f"{step.finished.status:<10} {step.finished.detail}")
    outcome = step.outcome
    if outcome is not None and outcome.verdict == "verified":
        healthy = f"well after {outcome.healthy_after_s:.1f} s, " if outcome.healthy_after_s is not None else ""
        lines.append(f"verified   {healthy}held for {outcome.held_for_s:.1f} s")
    elif outcome is not None:
        lines.append(f"rejected   {outcome.detail or 'it did not help'}")
    if step.experience is not None:
        lines.append(_lesson(step.experience))
    return lines


def _lesson(experience: ExperienceRecorded) -> str:
    verb = "helps against" if experience.succeeded else "does not help against"
    return f"learned    {experience.solution} on {experience.target} {verb} this problem"
