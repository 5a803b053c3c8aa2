"""Saved conversations: databases, search, resuming, import and export.

May import config, engine, core, util and errors; never another package of its layer.
"""
