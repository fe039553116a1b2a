"""The verbs of the ``aiops`` command, one module each, imported when they are called."""
