"""What the web service computes from its configuration: the fee of a transfer."""

from __future__ import annotations

from typing import Any

GOOD_CONFIGURATION: dict[str, Any] = {"fees": {"domestic": "0.50", "abroad": "3.00"}}
"""What the service is first deployed with."""
BAD_CONFIGURATION: dict[str, Any] = {"fees": {"domestic": "0,55", "abroad": "3,20"}}
"""The mistake everybody has made once: decimal commas.  Well-formed, so nothing notices before the first transfer."""


def fee(configuration: dict[str, Any], destination: str) -> float:
    """The fee of one transfer in currency units.

    Raises:
        ValueError: the configured fee is not a number.
        KeyError: no fee is configured for the destination.
    """
    return float(configuration["fees"][destination])


def is_sound(configuration: dict[str, Any]) -> bool:
    """Whether transfers can be booked with this configuration."""
    try:
        fee(configuration, "domestic")
    except (ValueError, KeyError, TypeError):
        return False
    return True
