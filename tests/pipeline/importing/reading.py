"""What importers find in files that tests write by hand."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.importing.inputs import Inputs
from pipeline.importing.observation import Importer, Observation
from topology.moments import text_of_us
from topology.payloads import LogWritten, MetricSampled


def found(
    importer: Importer, content: str | bytes, *, name: str = "shop.csv", inputs: Inputs | None = None
) -> list[Observation]:
    """What is in a file of this name and content."""
    with TemporaryDirectory() as folder:
        file = Path(folder, name)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return list(importer.read(file, inputs or Inputs()))


def samples(observations: list[Observation]) -> list[tuple[str, str, str, float]]:
    """Time, service, metric and value of each."""
    return [
        (text_of_us(each.at_us), each.payload.service, each.payload.metric, each.payload.value)
        for each in observations
        if isinstance(each.payload, MetricSampled)
    ]


def lines(observations: list[Observation]) -> list[tuple[str, str, str, str]]:
    """Time, service, level and message of each."""
    return [
        (text_of_us(each.at_us), each.payload.service, each.payload.level, each.payload.message)
        for each in observations
        if isinstance(each.payload, LogWritten)
    ]
