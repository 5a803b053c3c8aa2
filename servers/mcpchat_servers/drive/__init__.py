"""Google Drive: search, read, download, make, move, share, put into the trash; nothing is ever deleted for good."""
