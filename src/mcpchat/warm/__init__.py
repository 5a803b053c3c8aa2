"""The warm process: it has imported everything, and forks once for each command (Linux).

``front`` is what the user starts: it hands the command over and stands in for it at the terminal. It imports nothing
but C modules, so this package imports only ``util``, ``errors`` and ``version``, and nothing at its top.
"""
