"""Batches: many requests over one set of servers, or through a provider's Batch API.

May import app and everything below it.
"""
