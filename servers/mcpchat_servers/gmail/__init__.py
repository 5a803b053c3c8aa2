"""Gmail server: search, read, label, archive, mark, draft, reply, send, trash. It never deletes mail permanently."""
