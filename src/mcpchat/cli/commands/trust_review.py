"""trust review: what a server changed, shown and asked about, with the server itself asked."""

import sys

from mcpchat.cli.mcp_session import check_up, ignore, known_server, only, opened, person
from mcpchat.config.run import Setup
from mcpchat.errors import Denied, UsageError
from mcpchat.permissions.factory import pin_files
from mcpchat.permissions.pins import agreed, changes, pinned
from mcpchat.util.sanitize import clean


async def review(setup: Setup, server: str, *, yes: bool) -> int:
    """Raises Denied where something is not agreed to, UsageError, ServerError, StoreError."""
    known_server(setup, server)
    if setup.config.servers[server].builtin is not None:
        raise UsageError(f"{server} comes with mcpchat: there is nothing to review")
    here = person()
    store = pin_files(setup)
    async with opened(only(setup, server), ignore, refresh=True, at=here) as hub:
        await hub.tools()
        check_up(hub)
        now = pinned(server, hub.catalogs()[server])
    pins = store.load(server)
    if pins is None:
        store.save(server, now)
        sys.stderr.write(f"{server}: {len(now.tools)} tool{'s' * (len(now.tools) != 1)}, recorded as they are now\n")
        return 0
    offers = setup.config.servers[server].offers
    found = changes(pins, now, offers)
    for change in found:
        sys.stderr.write(f"{clean(change.label)} {change.told}:\n")
        sys.stderr.write("".join(f"  {line}\n" for line in change.shown().splitlines()))
        if not yes and not await here[0].confirm(server, f"have you agree to this: {change.label}", ""):
            continue
        pins = agreed(pins, now, {change.tool})
        store.save(server, pins)
    left = changes(pins, now, offers)
    if left:
        raise Denied(
            f"{len(left)} of {len(found)} changes of {server} are not agreed to",
            hint=f"mcpchat trust review {server} --yes agrees to all",
        )
    sys.stderr.write(f"{server} is as you agreed to it\n")
    return 0
