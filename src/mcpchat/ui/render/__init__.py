"""Events and values as text, tables, JSON or images."""
