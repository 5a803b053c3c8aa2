"""Helpers that know nothing of the product: text, files, locks, JSON Schema, signals.

May import errors.
"""
