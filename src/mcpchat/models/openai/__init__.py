"""The provider for OpenAI's two APIs, Responses and Chat Completions, at OpenAI and at compatible servers."""
