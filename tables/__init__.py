"""What is remembered, and what is computed over it.

An agent declares, as class attributes: ``tables.table`` (counts and other aggregates, by key and window),
``tables.keyed`` (values of its own by key), ``tables.table_join`` (events joined with what is known of their key) and
``tables.stream_join`` (events joined that happened close together).

Windows are in ``tables.windows``, aggregates in ``tables.aggregates``; the sketches among these in ``tables.quantiles``,
``tables.distinct`` and ``tables.frequent``.  ``tables.watermark`` is event time as tests of tables need it; an engine keeps
its own, per stage and partition.
"""
