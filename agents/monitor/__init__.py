"""From signals to incidents: make alike, notice, put together."""
