"""How bytes get to a server: standard input and output of a process, or HTTP."""
