"""From a declaration to the graph an engine runs: classes found, settings validated, every output routed."""

from __future__ import annotations

from topology.check import check_draft
from topology.defects import Places, raise_if_broken
from topology.draft import AgentLoader, Draft, DraftStage, draft_of
from topology.graph import Stage, Topology
from topology.parse import ParsedTopology
from topology.spec import TopologySpec


def resolve(declared: ParsedTopology | TopologySpec, load: AgentLoader) -> Topology:
    """The finished topology of a declaration, from text or built in Python.

    Args:
        declared: what :func:`topology.parse.parse` gave, or the model itself.
        load: gives the class of ``module:Class``; raises ConfigurationError, ImportError or AttributeError when it
            cannot.

    Raises:
        BrokenTopologyError: something does not fit; the message has a line for each error.  Warnings are left to
            :func:`topology.check.check`.
    """
    parsed = declared if isinstance(declared, ParsedTopology) else ParsedTopology(declared, Places(declared.name))
    draft = draft_of(parsed, load)
    raise_if_broken(check_draft(draft))
    return Topology(parsed.spec.name, draft.streams, tuple(_finished(stage, draft) for stage in draft.stages))


def _finished(stage: DraftStage, draft: Draft) -> Stage:
    if stage.agent_class is None or stage.config is None:
        msg = f"stage {stage.id!r} is unfinished although nothing was wrong with it"
        raise AssertionError(msg)
    routes = {emitted: stage.outputs_for(emitted)[0] for emitted in stage.agent_class.emits}
    passed_on = [stream for stream in stage.outputs if not stream.stored]
    following = [_finished(other, draft) for other in draft.stages if any(s in other.inputs for s in passed_on)]
    return Stage(
        stage.spec,
        stage.agent_class,
        stage.config,
        stage.inputs,
        routes,
        stage.edges,
        following[0] if following else None,
    )
