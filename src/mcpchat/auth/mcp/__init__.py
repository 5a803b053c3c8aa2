"""Sign-in to remote MCP servers, as defined in the authorization chapter of the MCP specification."""
