"""Sign-in to remote MCP servers, as the protocol's authorization chapter has it."""
