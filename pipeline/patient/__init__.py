"""The patient: a small real service that really breaks, so that the loop has something to repair.

It is an external system.  The loop knows it only through its telemetry (health pages, log files, processes, announced
changes) and touches it only through the host's control API.  Each box is a process of its own::

    ward (in `aiops run`) --stdin--> host --lifeline--> ledger-store     the backend, four slots
                                      |  `-----------> ledger           the web service the customers see
                                      `--------------> ledger-report    the batch job, normally not running

The host plays the machine: supervisor, deployer, the steady customers, and (for the trial only) the hand of fate.
Everything but `ward` uses the standard library alone and starts without site-packages, to stay small and quick.
"""
