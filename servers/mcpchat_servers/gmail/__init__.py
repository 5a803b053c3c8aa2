"""Gmail: search, read, label, archive, mark, draft, reply, send, put into the trash; nothing is deleted for good."""
