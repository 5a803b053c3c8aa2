"""Signing in: getting, keeping and renewing the credentials of servers.

May import config, engine, core, util and errors; never another package of its layer.
"""
