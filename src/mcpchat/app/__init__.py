"""The composition root: wires the packages together for one run.

May import everything below it; only batch, api and cli import it.
"""
