"""Where events end up: stores, behind one small protocol."""
