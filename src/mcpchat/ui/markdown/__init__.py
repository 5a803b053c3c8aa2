"""Markdown, rendered while it streams in."""
