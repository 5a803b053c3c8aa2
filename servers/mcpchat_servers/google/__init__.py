"""Shared code of the Google servers: access token, API requests, error texts, local files, MCP server class."""
