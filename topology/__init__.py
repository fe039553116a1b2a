"""What flows, and where it may flow: events, streams, stages, the graph.  No I/O, no clock.

Importing the package registers the product's event types.
"""

from __future__ import annotations

from topology import payloads as payloads
from topology.agent import Agent as Agent
from topology.agent import AgentConfig as AgentConfig
from topology.agent import World as World
from topology.event import Event as Event
from topology.event import Payload as Payload
from topology.question import Question as Question
