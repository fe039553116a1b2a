"""Who decides: the stages of the incident loop.

``monitor`` turns signals into findings and findings into incidents, ``diagnostic`` says why, ``healing`` decides, acts
and verifies, ``learning`` remembers what came of it.  Agents meet only on streams, and ask the world only through
:mod:`agents.ports`.
"""
