"""A journal in a process whose files may not grow: a full disk that needs no rights to make.

python -m tests.outages.full_disk_process FOLDER
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import orjson

from pipeline.sources.journal import Journal, JournalFullError, Keeping
from pipeline.sources.journal_files import look_into

FILE_BYTES_MAX = 10_000


def main(folder: Path) -> None:
    journal = Journal(folder, bytes_max=1_000_000, age_max_s=3600)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    event = orjson.dumps({"fill": "x" * 1_000})
    accepted = refused = 0
    refusal = ""
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, hard))
    for _ in range(30):
        try:
            journal.append("door", Keeping("refuse"), [event])
            accepted += 1
        except JournalFullError as full:
            refused += 1
            refusal = str(full)
    for _ in range(10):
        journal.append("host", Keeping("drop"), [event * 20])
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    journal.close()
    told = {
        "accepted": accepted,
        "refused": refused,
        "refusal": refusal,
        "dropped": journal.dropped,
        "read back": look_into(folder).waiting.events,
    }
    sys.stdout.write(orjson.dumps(told).decode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
