"""JSON Schemas of the topology file, of its tests and of every event type, made from the models that read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from topology.agent import Agent
from topology.cases import CasesSpec
from topology.event import Payload
from topology.registry import registered
from topology.spec import TopologySpec

JsonSchema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def topology_schema(agents: Mapping[str, type[Agent[Any, Any]]] | None = None) -> JsonSchema:
    """The schema of a topology file, for editors that complete and check.

    Args:
        agents: classes by their ``module:Class``; a stage with one of these agents has its ``config`` checked too.
    """
    known = dict(sorted((agents or {}).items()))
    wanted: list[tuple[type[BaseModel], Literal["validation"]]] = [(TopologySpec, "validation")]
    wanted += [(agent.Config, "validation") for agent in known.values()]
    references, schema = models_json_schema(wanted)
    definitions = schema["$defs"]
    if known:
        definitions["StageSpec"]["allOf"] = [
            {
                "if": {"properties": {"agent": {"const": name}}, "required": ["agent"]},
                "then": {"properties": {"config": references[agent.Config, "validation"]}},
            }
            for name, agent in known.items()
        ]
    root = definitions.pop("TopologySpec")
    return {"$schema": DIALECT, **root, "title": "Topology", "$defs": definitions}


def tests_schema() -> JsonSchema:
    """The schema of the tests beside a topology."""
    return {"$schema": DIALECT, **CasesSpec.model_json_schema(), "title": "Tests"}


def event_schemas() -> dict[str, JsonSchema]:
    """The schema of whole events, envelope and payload, by event type."""
    return {payload.event_type: event_schema(payload) for payload in registered()}


def event_schema(payload: type[Payload]) -> JsonSchema:
    """The schema of the JSON form of events with this payload, in its version of today."""
    body = payload.model_json_schema(mode="validation")
    definitions = body.pop("$defs", {})
    maybe_id = {"anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}], "default": None}
    metadata: JsonSchema = {"type": "object", "default": {}}
    required = ["id", "timestamp", "event_type", "source", "payload"]
    if payload.version > 1:
        # Without it a reader takes the payload for one of version 1.
        metadata["properties"] = {"schema_version": {"const": payload.version}}
        metadata["required"] = ["schema_version"]
        required.append("metadata")
    schema = {
        "$schema": DIALECT,
        "title": payload.event_type,
        "description": body.get("description", ""),
        "type": "object",
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "timestamp": {"type": "string", "format": "date-time"},
            "event_type": {"const": payload.event_type},
            "source": {"type": "string"},
            "payload": body,
            "correlation_id": maybe_id,
            "causation_id": maybe_id,
            "metadata": metadata,
        },
        "required": required,
        "additionalProperties": False,
    }
    return {**schema, "$defs": definitions} if definitions else schema
