"""The schema, step by step; a package so that its files are installed."""
