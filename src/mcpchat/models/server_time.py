"""The time of a server, to compare the clock of this machine with."""

from email.utils import parsedate_to_datetime

_TIMEOUT = 5.0  # seconds


async def read_server_time(url: str) -> float | None:
    """The server's time in seconds since 1970, from the Date header of any answer; None if there is none.

    The request has no key.
    """
    import httpx2

    try:
        async with httpx2.AsyncClient(timeout=_TIMEOUT) as client:
            response = await client.head(url)
        return parsedate_to_datetime(response.headers.get("date", "")).timestamp()
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, TypeError, OSError):
        return None
