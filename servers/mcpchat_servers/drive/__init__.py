"""Google Drive server: search, read, download, create, move, share, trash. It never deletes a file permanently."""
