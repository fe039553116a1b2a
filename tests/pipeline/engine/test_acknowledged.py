"""What a process remembers of its server's acknowledgements."""

from __future__ import annotations

import pytest

from pipeline.engine.acknowledged import Acknowledged
from pipeline.engine.keys import Keys
from pipeline.engine.mesh import Lease, LostWritesError

OWNER = Lease("~archive-signals", 0, "1 one")
LOOKING = Lease("~archive-signals", 0, "")


def test_who_only_looks_may_be_told_of_less_than_was_committed_meanwhile() -> None:
    acknowledged = Acknowledged(Keys("t"))
    acknowledged.restored(OWNER, 0)
    acknowledged.committed(OWNER)

    acknowledged.restored(LOOKING, 0)

    assert acknowledged.commits_before(OWNER) == 1, "and that changes nothing for the owner"
    acknowledged.committed(OWNER)
    with pytest.raises(LostWritesError, match="knows 1 commits"):
        acknowledged.restored(Lease("~archive-signals", 0, "2 two"), 1)
