"""The command line: parse, call, print, return an exit code.

This file stays empty, so that a Tab and --help are answered without loading a parser. May import everything.
"""
