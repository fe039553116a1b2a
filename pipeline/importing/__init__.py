"""Recordings of what people have: series, logs, alerts and metrics that other programs wrote to files.

``inputs`` reads files and knows what becomes of what cannot be understood, ``times`` reads moments; ``metric_csv``,
``log_text``, ``alert_history``, ``range_query`` and ``otlp`` are the formats; ``in_order`` makes records of what they find.
"""
