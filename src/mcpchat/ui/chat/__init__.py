"""The chat's read-eval-print loop: slash commands, completion, the status bar."""
