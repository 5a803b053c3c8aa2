"""The configuration: parse and edit the TOML file, load project files, and hold the context of a run.

May import core, util and errors.
"""
