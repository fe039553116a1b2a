"""JSON Schemas are made from the models that read the data, so they say what is read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from tests.strategies import vocabulary
from tests.topology.loop_of_three import Gather, Notice
from topology.event import Payload
from topology.schema import event_schema, event_schemas, topology_schema
from topology.spec import InputSpec, StageSpec, TopologySpec


def _inside(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from _inside(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _inside(value)


def test_the_topology_schema_knows_every_key_of_the_file() -> None:
    schema = topology_schema()

    assert set(schema["properties"]) == set(TopologySpec.model_fields)
    assert set(schema["$defs"]["StageSpec"]["properties"]) == set(StageSpec.model_fields)
    assert schema["$defs"]["StageSpec"]["additionalProperties"] is False


def test_one_stream_or_a_list_of_them_may_be_written_by_name_or_in_full() -> None:
    schema = topology_schema()["$defs"]
    consumes = schema["StageSpec"]["properties"]["consumes"]

    assert [form.get("type", form.get("$ref")) for form in consumes["anyOf"]] == [
        "string",
        "#/$defs/InputSpec",
        "array",
    ]
    assert set(schema["InputSpec"]["properties"]) == set(InputSpec.model_fields)
    assert [form["type"] for form in schema["StageSpec"]["properties"]["emits"]["anyOf"]] == ["string", "array"]


def test_defaults_are_written_as_a_person_would_write_them() -> None:
    for part in _inside(topology_schema()):
        if isinstance(part.get("default"), str) and "pattern" in part:
            assert re.search(part["pattern"], part["default"])


def test_the_config_of_a_known_agent_is_part_of_the_topology_schema() -> None:
    schema = topology_schema({"tiny:Notice": Notice, "tiny:Gather": Gather})

    by_agent = {
        rule["if"]["properties"]["agent"]["const"]: rule["then"]["properties"]["config"]["$ref"]
        for rule in schema["$defs"]["StageSpec"]["allOf"]
    }
    config = schema["$defs"][by_agent["tiny:Notice"].removeprefix("#/$defs/")]
    assert set(config["properties"]) == {"value_max", "systems"}
    assert set(by_agent) == {"tiny:Notice", "tiny:Gather"}


def test_every_reference_in_a_schema_leads_somewhere() -> None:
    for schema in (*event_schemas().values(), topology_schema(), topology_schema({"tiny:Notice": Notice})):
        for part in _inside(schema):
            if "$ref" in part:
                assert part["$ref"].removeprefix("#/$defs/") in schema["$defs"]


@pytest.mark.parametrize("payload", vocabulary(), ids=lambda payload: payload.event_type)
def test_every_event_type_has_a_schema_of_the_whole_event(payload: type[Payload]) -> None:
    schema = event_schemas()[payload.event_type]

    assert schema["properties"]["event_type"] == {"const": payload.event_type}
    assert set(schema["properties"]["payload"]["properties"]) == set(payload.model_fields)
    assert schema["additionalProperties"] is False
    assert schema["description"]
    orjson.dumps(schema)


def test_the_schema_of_a_later_version_asks_for_the_version() -> None:
    class Later(Payload):
        event_type = "later.seen"
        version = 2

    schema = event_schema(Later)

    assert schema["properties"]["metadata"]["properties"] == {"schema_version": {"const": 2}}
    assert "metadata" in schema["required"]
