"""The vocabulary: frozen values and the protocols between packages.

No I/O and no SDK. May import util and errors.
"""
