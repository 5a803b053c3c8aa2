"""What servers of Google's APIs have in common: the token, requests, refusals in words, files, the server."""
