"""``aiops bench``: how fast, how prompt and how safe the engine is, on this machine.

Real servers, real worker processes, unmodified: what is measured is what runs in production.  No figure is given before
an oracle, which counts the input again in the simplest way, agrees with every output.
"""
