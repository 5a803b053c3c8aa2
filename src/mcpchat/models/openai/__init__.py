"""OpenAI's two APIs, Responses and Chat Completions, as any compatible server speaks them."""
