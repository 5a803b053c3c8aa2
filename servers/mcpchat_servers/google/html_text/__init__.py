"""Extracts from HTML the text that a person would see."""
