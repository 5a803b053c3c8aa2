"""What the user agreed to: approval rules, approvals that are kept, pinned tool definitions.

May import config, engine, core, util and errors; never another package of its layer.
"""
