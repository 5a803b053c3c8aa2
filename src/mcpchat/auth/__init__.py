"""Sign-in: obtains, stores and renews the credentials of servers.

May import config, engine, core, util and errors, but no other package of its layer.
"""
