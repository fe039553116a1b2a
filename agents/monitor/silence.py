"""Notice that a service which used to be heard of has fallen silent."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from pydantic import BaseModel, ConfigDict

from tables.keyed import Keyed
from topology.agent import Agent, AgentConfig, World
from topology.durations import Duration
from topology.event import Event
from topology.moments import SECOND_US, span_us
from topology.payloads.findings import AnomalyCleared, AnomalyDetected
from topology.payloads.operation import TickPassed
from topology.payloads.signals import HeartbeatSeen

Noticed = AnomalyDetected | AnomalyCleared

_KIND = "heartbeat.missing"
_LAST_TICK = "tick"


class SilenceConfig(AgentConfig):
    """When silence is a symptom.

    Attributes:
        silence: no heartbeat for so long is a symptom.
        forget_after: silent for so long, a service is taken to be gone for good; the symptom is dropped.
    """

    silence: Duration = timedelta(seconds=5)
    forget_after: Duration = timedelta(hours=1)


class Voice(BaseModel):
    """When a service was last heard, as far as we were listening."""

    model_config = ConfigDict(frozen=True)

    system: str
    heard_us: int
    missing: bool = False


class SilenceDetector(Agent[HeartbeatSeen | TickPassed, Noticed]):
    """Finds ``heartbeat.missing``: heartbeats, good or bad, that have stopped altogether.

    Time passes by ticks.  Where ticks themselves are missing for longer than ``silence``, nobody was listening: the
    pipeline was stopped.  That time is nobody's silence, and what runs now need not be what ran then, so a service must
    be heard once more before it can be missed.

    Remembers: one row for each service ever heard, until it is forgotten.
    """

    Config = SilenceConfig

    voices = Keyed("voices", value=Voice)
    ticks = Keyed("ticks", value=int)

    def process(self, event: Event[HeartbeatSeen | TickPassed], world: World) -> Iterable[Noticed]:
        """A heartbeat, or the passing of time, in; what has begun or ended out."""
        del world
        if isinstance(event.payload, TickPassed):
            yield from self._on_tick(event.at_us)
            return
        beat = event.payload
        voice = self.voices.get(beat.service)
        if voice is not None and voice.missing:
            yield AnomalyCleared(
                service=beat.service,
                system=voice.system,
                kind=_KIND,
                severity="high",
                summary=f"{beat.service} is heard again",
                evidence=(event.id,),
            )
        heard_us = event.at_us if voice is None else max(event.at_us, voice.heard_us)
        self.voices.put(beat.service, Voice(system=beat.system, heard_us=heard_us))

    def _on_tick(self, now_us: int) -> Iterable[Noticed]:
        config: SilenceConfig = self.config
        silence_us, forget_us = span_us(config.silence), span_us(config.forget_after)
        last_tick_us = self.ticks.get(_LAST_TICK)
        self.ticks.put(_LAST_TICK, now_us)
        was_deaf = last_tick_us is not None and now_us - last_tick_us > silence_us
        for service, voice in self.voices.items():
            if was_deaf and not voice.missing:
                self.voices.delete(service)
                continue
            silent_us = now_us - voice.heard_us
            if voice.missing and silent_us > forget_us:
                self.voices.delete(service)
                yield _cleared_for_good(service, voice)
            elif not voice.missing and silent_us > silence_us:
                self.voices.put(service, voice.model_copy(update={"missing": True}))
                yield AnomalyDetected(
                    service=service,
                    system=voice.system,
                    kind=_KIND,
                    severity="high",
                    summary=f"{service} has not been heard of for {silent_us / SECOND_US:.0f} s",
                    value=silent_us / SECOND_US,
                    expected=f"a heartbeat within {silence_us / SECOND_US:g} s",
                )


def _cleared_for_good(service: str, voice: Voice) -> AnomalyCleared:
    return AnomalyCleared(
        service=service,
        system=voice.system,
        kind=_KIND,
        severity="high",
        summary=f"{service} seems to be gone for good",
    )
