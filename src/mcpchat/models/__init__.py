"""Models: chooses the model of a run, and talks to it through the provider of its API.

May import config, engine, core, util and errors; never another package of its layer.
"""
