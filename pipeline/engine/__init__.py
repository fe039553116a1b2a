"""What makes stages run: tasks and commits, the meshes they run on, and the workers that own them.

From the inside to the outside; what stands below imports from above, not the other way round:

- what comes and goes: ``record``, and ``mesh``, the contract of what carries it;
- a stage's partition, pure: ``task``, ``chain`` (several stages as one), ``attempt``, ``asking``,
  ``inputs``, ``entrance``, ``event_time``, ``outputs``, ``progress``, ``rows``, ``verdict``, ``replaying``;
- meshes: ``memory``, ``redis_mesh`` with ``redis_reach``, ``redis_answers``, ``keys`` and `lua/`;
  a cluster: ``cluster``, ``outbox``; a server to be trusted: ``server_check``, ``acknowledged``, ``outage``; seen from outside:
  ``oversight``;
- who owns what: ``members``, ``assignment``, ``owned``, ``restoring``, ``tenure``, ``watchdog``;
- what flows when: ``publisher``, ``reading``, ``reading_plan``, ``turns``, ``pressure``;
- upkeep of a deployment: ``forwarder``, ``ticker``, ``retention``, ``dead_letters``;
- what runs it all: ``worker``, ``sink_runner``, ``drive`` (on a clock the caller moves), ``supervision``, ``garbage``.
"""
