"""The shared types: frozen values, and the protocols (interfaces) between packages.

No I/O and no SDK. May import util and errors.
"""
