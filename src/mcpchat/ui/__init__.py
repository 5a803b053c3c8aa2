"""The terminal: rendering, the prompt, dialogs, and the chat's slash commands.

May import config, engine, core, util and errors; never another package of its layer.
"""
