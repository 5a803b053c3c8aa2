"""The user's permissions: approval rules, saved approvals, pinned tool definitions.

May import config, engine, core, util and errors; never another package of its layer.
"""
