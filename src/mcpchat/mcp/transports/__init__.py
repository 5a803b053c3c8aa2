"""Transports: how messages reach a server. The stdin and stdout of a process, or HTTP."""
