"""Where events end up: stores and recordings, each behind the same small protocol."""
