"""From incidents to causes, and to what could help."""
