"""The agent loop: sessions, turns, the history, the context window, approvals of calls.

Pure: what it needs from outside is a protocol of core. May import core, util and errors.
"""
