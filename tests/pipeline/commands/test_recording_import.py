"""``aiops recording import``: a recording of what other programs wrote to files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.engine.record import Record
from pipeline.recordings.reader import Recording
from tests.pipeline.commands.calling import call, call_json
from tests.pipeline.recordings.recorded import told
from topology.moments import moment_text
from topology.payloads import AlertFired, LogWritten, MetricSampled

EARLY = "timestamp,value\n2026-03-01 12:00:00,1\n2026-03-01 12:10:00,3\n2026-03-01 12:10:00,3\n"
LATE = "timestamp,value\n2026-03-01 12:05:00,2\n2026-03-01 12:04:00,\n"
ALERT = {
    "labels": {"alertname": "Down", "service": "web"},
    "startsAt": "2026-03-01T12:00:00Z",
    "updatedAt": "2026-03-01T12:00:00Z",
    "endsAt": "2026-03-01T12:04:00Z",
    "annotations": {"summary": "write to jane@example.com"},
}
MATRIX = {
    "data": {"resultType": "matrix", "result": [{"metric": {"__name__": "up", "job": "web"}, "values": [[5, "1"]]}]}
}
OTLP = {
    "resourceLogs": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "web"}}]},
            "scopeLogs": [{"logRecords": [{"timeUnixNano": "5000000000", "body": {"stringValue": "token=abc"}}]}],
        }
    ]
}


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    files = [tmp_path / "early.csv", tmp_path / "late.csv"]
    for file, text in zip(files, (EARLY, LATE), strict=True):
        file.write_text(text)
    return files


def written(folder: Path, name: str, *documents: Any) -> Path:
    file = folder / name
    file.write_bytes(b"\n".join(map(orjson.dumps, documents)))
    return file


def read(file: Path) -> list[Record]:
    return list(Recording(file).records())


def test_series_of_several_files_come_in_order_of_time(series: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "a.recording"
    report = call_json("recording", "import", "csv", *series, "--out", out, "--json")
    assert (report["records"], report["gaps"], report["repeated"], report["bad"]) == (4, 1, 1, 0)
    said = []
    for record in read(out):
        payload = record.event.payload
        assert isinstance(payload, MetricSampled)
        assert record.stream == "intake"
        assert record.key == payload.service
        said.append((moment_text(record.event.timestamp)[11:16], payload.service, payload.value))
    assert said == [("12:00", "early", 1.0), ("12:05", "late", 2.0), ("12:10", "early", 3.0), ("12:10", "early", 3.0)]
    assert call_json("recording", "info", out, "--json")["parts"][0]["topology"] == "incident-loop"


def test_the_same_input_gives_the_same_records(series: list[Path], tmp_path: Path) -> None:
    one, other, again = (tmp_path / name for name in ("a", "b", "c"))
    assert call("recording", "import", "csv", *series, "--out", one).exit_code == 0
    assert call("recording", "import", "csv", *reversed(series), "--out", other).exit_code == 0
    assert told(read(one)) == told(read(other))
    assert call("recording", "merge", one, other, "--out", again).exit_code == 0
    assert told(read(again)) == told(read(one)), "what was imported twice meets when it is merged"


def test_recordings_of_different_things_at_the_same_time_can_be_merged(series: list[Path], tmp_path: Path) -> None:
    for service in ("web", "store"):
        out = tmp_path / service
        assert call("recording", "import", "csv", *series, "--service", service, "--out", out).exit_code == 0
    assert call("recording", "merge", tmp_path / "web", tmp_path / "store", "--out", tmp_path / "both").exit_code == 0
    assert len(read(tmp_path / "both")) == 8


def test_logs_alerts_prometheus_and_otlp_are_imported_and_masked(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    log.write_text("2026-03-01 13:00:00 ERROR password=hunter2\n")
    files: dict[str, list[str | Path]] = {
        "logs": [log, "--zone", "Europe/Berlin", "--label", "env=test"],
        "alertmanager": [written(tmp_path, "alerts.json", [ALERT, ALERT])],
        "prometheus": [written(tmp_path, "up.json", MATRIX, MATRIX)],
        "otlp": [written(tmp_path, "otlp.json", OTLP)],
    }
    found = {}
    for form, arguments in files.items():
        out = tmp_path / form
        assert call("recording", "import", form, *arguments, "--out", out).exit_code == 0
        [found[form]] = [record.event for record in read(out)]
    entry, alert, sample, record = (found[form].payload for form in files)
    assert isinstance(entry, LogWritten)
    assert isinstance(alert, AlertFired)
    assert isinstance(sample, MetricSampled)
    assert isinstance(record, LogWritten)
    assert (entry.service, entry.message, dict(entry.labels)) == ("web", "password=[masked:secret]", {"env": "test"})
    assert moment_text(found["logs"].timestamp) == "2026-03-01T12:00:00Z"
    assert alert.summary == "write to [masked:email]"
    assert (sample.service, sample.metric) == ("web", "up")
    assert record.message == "token=[masked:secret]"


def test_what_cannot_be_understood_is_refused_and_nothing_is_written(series: list[Path], tmp_path: Path) -> None:
    series[1].write_text(LATE + "tomorrow,5\n")
    out = tmp_path / "out"
    result = call("recording", "import", "csv", *series, "--out", out)
    assert result.exit_code == 1
    assert f"{series[1]}, line 4: found 'tomorrow', expected a time" in result.stderr
    assert sorted(tmp_path.iterdir()) == sorted(series)
    result = call("recording", "import", "csv", *series, "--out", out, "--skip-bad")
    assert result.exit_code == 0
    assert "left out 1 item that could not be understood" in result.stderr
    assert f"{series[1]}, line 4: found 'tomorrow'" in result.stderr
    assert "1 event said what another did at the same time: kept" in result.stdout
    assert "1 gap without a value" in result.stdout


def test_what_no_event_can_say_is_told(tmp_path: Path) -> None:
    file = written(tmp_path, "spans.json", {"resourceSpans": [{}]})
    result = call("recording", "import", "otlp", file, "--out", tmp_path / "out")
    assert "left out: spans of a resource (1)" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--zone", "Mars"], "found --zone 'Mars', expected the name of a time zone"),
        (["--time-format", "days"], "found --time-format 'days', expected one of s, ms, us, ns"),
        (["--label", "env"], "found --label 'env', expected NAME=VALUE"),
        (["--delimiter", "ab"], "found --delimiter 'ab', expected one character"),
        (["--metric", "a", "--metric-column", "b"], "found both --metric and --metric-column"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    series: list[Path], tmp_path: Path, options: list[str], said: str
) -> None:
    result = call("recording", "import", "csv", *series, "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert said in result.stderr


def test_neither_a_file_that_is_there_nor_what_is_read_is_replaced(series: list[Path], tmp_path: Path) -> None:
    assert call("recording", "import", "csv", series[0], "--out", series[1]).exit_code == 2
    result = call("recording", "import", "csv", *series, "--out", series[1], "--force")
    assert (result.exit_code, series[1].read_text()) == (2, LATE)
    assert call("recording", "import", "csv", series[0], "--out", series[1], "--force").exit_code == 0
    assert len(read(series[1])) == 3


def test_a_topology_without_such_an_intake_is_refused(series: list[Path], tmp_path: Path) -> None:
    topology = tmp_path / "t.yaml"
    topology.write_text("name: t\nstreams:\n  intake: {carries: [LogWritten]}\nstages: []\n")
    result = call("recording", "import", "csv", *series, "--out", tmp_path / "out", "--topology", topology)
    assert result.exit_code == 78
    assert "does not carry MetricSampled" in result.stderr
