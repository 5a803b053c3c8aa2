"""The configuration: TOML in, frozen values out; editing the file; project files; what one run starts from.

May import core, util and errors.
"""
