"""What a worker reads is what its tasks want, although only those that changed are asked."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.mesh import Lease
from pipeline.engine.owned import Holdings, Owned
from pipeline.engine.reading_plan import ReadingPlan
from pipeline.engine.record import BEGINNING, Offset, Place, Record, Restored, output_for
from pipeline.engine.rows import Remembered
from pipeline.engine.task import PartitionTask
from pipeline.engine.verdict import Memory
from tests.contracts.counting import line, topology

GRAPH = topology(partitions=3)
STAGES = [stage for stage in GRAPH.stages if stage.id != "forward"]
"""Both read the signals; one of them asks about each line, and waits for the answer."""

held = st.tuples(st.sampled_from(STAGES), st.integers(0, 2))
doings = st.sampled_from(("take", "drop", "restore", "offer", "step", "commit", "answer", "fail"))


def task_of(owned: Owned, position: Offset) -> PartitionTask:
    restored = Restored(offsets={("signals", owned.lease.partition): position})
    return PartitionTask(owned.stage, owned.lease.partition, Remembered(owned.stage, restored), owned.memory)


def records_after(place: Place, position: Offset) -> list[Record]:
    output = output_for(GRAPH.streams["signals"], line(position.ms, "a", position.ms), partition=place[1])
    offsets = [Offset(position.ms + n, 0) for n in (1, 2)]
    return [Record(*place, offset, output.key, output.event_type, output.value) for offset in offsets]


class World:
    """What befalls a worker's partitions, as the worker does it."""

    def __init__(self) -> None:
        self.holdings: Holdings = {}

    def do(self, doing: str, stage_id: str, partition: int) -> None:
        place = stage_id, partition
        stage = GRAPH.stage(stage_id)
        owned = self.holdings.get(place)
        if doing == "take" and owned is None:
            owned = Owned(stage, Lease(*place, "1"), Memory(), None)  # type: ignore[arg-type]
            owned.task = task_of(owned, BEGINNING)
            self.holdings[place] = owned
        elif owned is None:
            return
        elif doing == "drop":
            del self.holdings[place]
        elif doing == "restore":
            owned.memory = Memory()
            owned.task = task_of(owned, Offset(7, 0))
            owned.sound = owned.touched = True
        elif doing == "fail":
            owned.sound = False
        elif not owned.sound:
            return
        elif doing == "offer" and owned.task.room:
            for where, position in owned.task.positions.items():
                owned.offer(records_after(where, position))
        elif doing == "step" and owned.touched and owned.task.ready:
            owned.task.step(1)
        elif doing == "commit" and owned.touched and owned.task.moved:
            owned.task.take_commit()
        elif doing == "answer":
            for question in owned.task.take_questions():
                owned.task.answer(question, {"status": "succeeded", "detail": ""})

    def wanted(self) -> dict[Place, set[Offset]]:
        """What would be found by asking everybody."""
        found: dict[Place, set[Offset]] = {}
        for owned in self.holdings.values():
            if owned.sound and owned.task.room:
                for place, position in owned.task.positions.items():
                    found.setdefault(place, set()).add(position)
        return found


@settings(max_examples=300)
@given(st.lists(st.tuples(doings, held, st.booleans()), max_size=60))
def test_the_plan_is_what_everybody_would_say_if_asked(
    doing: list[tuple[str, tuple[object, int], bool]],
) -> None:
    world = World()
    plan = ReadingPlan(world.holdings)
    for what, (stage, partition), reads in doing:
        world.do(what, stage.id, partition)  # type: ignore[attr-defined]
        assert not [o for o in world.holdings.values() if not o.touched and o.sound and not o.quiet]
        if not reads:
            continue
        failed_quietly = any(not owned.sound and not owned.touched for owned in world.holdings.values())
        plan.make()
        wanted = world.wanted()
        assert not plan.leaves_somebody_out()
        if failed_quietly:  # read on for nothing, until it is restored
            continue
        assert plan.places.keys() == wanted.keys()
        assert all(plan.places[place] in offsets for place, offsets in wanted.items())
        assert plan.alike == all(len(offsets) == 1 for offsets in wanted.values())


def test_stages_at_different_records_of_a_partition_take_turns_and_who_comes_is_noticed() -> None:
    world = World()
    plan = ReadingPlan(world.holdings)
    world.do("take", "count-windows", 0)
    assert plan.leaves_somebody_out()
    plan.make()
    assert plan.places == {("signals", 0): BEGINNING}
    assert not world.holdings["count-windows", 0].touched, "nothing is to be done for it until something is offered"
    for doing in ("offer", "step", "step", "commit"):
        world.do(doing, "count-windows", 0)
    world.do("take", "ask-world", 0)
    seen = []
    for _ in range(4):
        plan.make()
        assert not plan.alike
        seen.append(plan.places["signals", 0])
    assert seen in ([BEGINNING, Offset(2, 0)] * 2, [Offset(2, 0), BEGINNING] * 2)
    both = list(plan.readers_of([("signals", 0), ("signals", 1)]))
    assert both == list(world.holdings.values())
    world.do("restore", "ask-world", 0)
    assert plan.leaves_somebody_out()
    world.do("drop", "ask-world", 0)
    plan.make()
    assert plan.alike
    assert list(plan.readers_of([("signals", 0)])) == [world.holdings["count-windows", 0]]
    world.do("drop", "count-windows", 0)
    plan.make()
    assert plan.places == {}
