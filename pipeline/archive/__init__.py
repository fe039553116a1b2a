"""What streams have forgotten: written by the janitor before it trims, read back as if it had never been gone.

    {folder}/{stream}/{partition}/{first offset}_{last offset}.jsonl.zst    segments
    {folder}/{stream}/{partition}/expired-through                           what was there and is not kept any longer

``segment`` is one file, ``folder`` all of them, ``archivist`` how they come about, ``history`` how they are read.
"""
