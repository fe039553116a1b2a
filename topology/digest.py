"""What tells one declared topology from another."""

from __future__ import annotations

from hashlib import sha256

import orjson

from topology.spec import TopologySpec


def topology_digest(spec: TopologySpec) -> str:
    """SHA-256 of what is declared, in hexadecimal: equal whenever the declarations mean the same.

    Comments, the order of keys, and defaults that are written out make no difference, nor does a release that can declare
    more.  The code of agents is not in it.
    """
    declared = orjson.dumps(spec.model_dump(mode="json", exclude_defaults=True), option=orjson.OPT_SORT_KEYS)
    return sha256(declared).hexdigest()
