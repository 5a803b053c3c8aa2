"""Checks whether everything works: the config, the model, each server, the keyring, the stored threads, the machine.

Each check is a value. Imports ``app`` and what is below it; ``cli`` shows the checks.
"""
