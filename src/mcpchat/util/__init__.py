"""General helpers without product logic: text, files, locks, JSON Schema, signals.

May import errors.
"""
