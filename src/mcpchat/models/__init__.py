"""Which model answers, and how to talk to it.

May import config, engine, core, util and errors; never another package of its layer.
"""
