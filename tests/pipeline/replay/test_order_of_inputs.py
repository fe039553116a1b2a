"""A stage with several inputs reads them in the order in which they came, however fast whoever writes them is now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.drive import Driver
from pipeline.engine.memory import MemoryMesh
from pipeline.engine.record import Record
from pipeline.recordings.header import Header
from pipeline.recordings.reader import Recording
from pipeline.replay.answers import RecordedAnswers
from pipeline.replay.player import Replay
from pipeline.replay.timetable import Timetable
from tests.contracts.counting import AGENTS
from tests.pipeline.recordings.recorded import PART, told, written
from topology.event import Event, Payload
from topology.graph import Topology
from topology.ids import derived_id
from topology.moments import from_us
from topology.payloads import AnomalyDetected
from topology.resolve import resolve
from topology.spec import StageSpec, StreamSpec, TopologySpec

START_US = 1_800_000_000_000_000
NAMES = ("direct", "indirect", "relayed", "merged")


def _topology() -> Topology:
    """Direct events, and indirect ones that are relayed, come together in a stage that is declared, and looks, first."""
    stream = StreamSpec(carries=("AnomalyDetected",), partitions=2)
    stages = {"merge": (("direct", "relayed"), "merged"), "relay": (("indirect",), "relayed")}
    spec = TopologySpec(
        name="merging",
        streams=dict.fromkeys(NAMES, stream),
        stages=tuple(
            StageSpec(id=name, agent="counting:Forward", consumes=consumed, emits=(emitted,))
            for name, (consumed, emitted) in stages.items()
        ),
    )
    return resolve(spec, lambda name: AGENTS[name])


def _event(number: int, service: str, at_us: int) -> Event[Payload]:
    payload = AnomalyDetected(service=service, system=service, kind="k", subject=str(number))
    return Event(id=derived_id("event", number), timestamp=from_us(at_us), source="test", payload=payload)


async def _live(graph: Topology, said: Sequence[tuple[str, str, int]]) -> list[Record]:
    driver = Driver(graph, start_us=START_US)
    for number, (stream, service, pause_ms) in enumerate(said):
        await driver.advance_to(driver.now_us + pause_ms * 1000)
        await driver.publish(stream, [_event(number, service, driver.now_us)])
        await driver.run_until_idle()
    assert isinstance(driver.mesh, MemoryMesh)
    found = [record for name in NAMES for record in driver.mesh.records(name)]
    return sorted(found, key=lambda each: (each.offset, each.stream, each.partition))


_SAID = st.lists(
    st.tuples(st.sampled_from(["direct", "indirect"]), st.sampled_from("abc"), st.integers(0, 400)), max_size=30
)


@settings(max_examples=60, deadline=None)
@given(_SAID)
async def test_what_is_numbered_gets_the_numbers_it_had(said: list[tuple[str, str, int]]) -> None:
    graph = _topology()
    live = await _live(graph, said)
    again: list[Record] = []
    header = Header.of(graph.stored, PART)
    timetable = Timetable(graph, header, ())

    with TemporaryDirectory() as folder:
        path = written(Path(folder) / "recording", live, header=header)
        answers = RecordedAnswers(Recording(path))
    counts = await Replay(graph, timetable, answers, again.append).play(live)

    assert told(again) == told(live)
    assert counts.as_recorded
    assert counts.again == sum(2 if stream == "indirect" else 1 for stream, _, _ in said)
