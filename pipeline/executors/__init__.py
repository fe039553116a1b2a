"""Hands: the only code that changes the systems we look after."""

from __future__ import annotations

from pipeline.executors.executor import Executor as Executor
from pipeline.executors.executor import Executors as Executors
