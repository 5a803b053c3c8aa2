"""What a person sees: renderers of events, the prompt, the slash commands."""
