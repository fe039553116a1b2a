"""Recordings: what streams said, in one portable file.

    FILE                    zstd frames of JSON lines, which ``zstdcat FILE`` shows: the header, then one line per record

``layout`` is the bytes, ``header`` what a recording says of itself, ``writer`` and ``reader`` make and read one,
``gathering`` takes records out of the live mesh and its archives, ``merging`` makes one recording of several.
"""
