"""Replays: what sources said, as it was recorded, through any topology, in virtual time and without a server.

``answers`` is what the world said then, ``timetable`` tells what came from outside from what stages concluded and divides it
into steps, ``player`` plays it, ``counts`` is what came of it.
"""
