"""What meets the outside: model APIs, MCP servers, disk caches, the keyring."""
