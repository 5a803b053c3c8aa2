"""What Google answers when it does not do something, in words that say what to do about it."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError

from mcpchat_servers.google.credentials import SIGN_IN
from mcpchat_servers.google.names import one_line

LIMITS = {"rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED", "quotaExceeded", "RESOURCE_EXHAUSTED"}
_SCOPES = {"insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "insufficientScopes"}
_OFF = {"accessNotConfigured", "SERVICE_DISABLED"}
_SERVICE = re.compile(r"[a-z]{2,30}\.googleapis\.com")
_WORDS: Mapping[str, str] = {
    "dailyLimitExceeded": "the Cloud project has used up its requests of today: try again tomorrow",
    "storageQuotaExceeded": "the account's storage is full: free some, or trash files and empty the trash",
    "teamDriveFileLimitExceeded": "the shared drive holds as many files as it may",
    "exportSizeLimitExceeded": "Google exports at most 10 MB of a document: open it in the browser instead",
    "fileNotDownloadable": "this file has no content of its own to download: export it to a format, or read it",
    "cannotDownloadFile": "its owner does not let this account download it",
    "cannotDownloadAbusiveFile": "Google holds this file for malware or spam, and does not give it out",
    "fileNotExportable": "this kind of Google file cannot be exported",
    "cannotAddParent": "it is in somebody else's Drive and cannot be moved into a folder here: copy_file makes a copy",
    "cannotCopyFile": "its owner does not let this account copy it",
    "insufficientFilePermissions": "this account may not do that with this file: ask its owner for the right to edit",
    "insufficientParentPermissions": "this account may not add anything to that folder",
    "appNotAuthorizedToFile": "the login reaches only files that were opened with this app",
    "domainPolicy": "the administrator of this Google account does not allow apps to use this service",
    "sharingRateLimitExceeded": "Google takes no more invitations for now: try again later",
    "invalidSharingRequest": "Google does not share it so; check the address, and whether the owner allows sharing",
    "cannotShareTeamDriveTopFolderWithAnyoneOrDomains": "a shared drive's top folder is not shared with everyone",
    "publishOutNotPermitted": "the administrator does not let this file be shared outside",
}


class Refused(ToolError):
    """An answer that is no success. ``status`` is HTTP's, ``reason`` Google's word for it."""

    def __init__(self, text: str, *, status: int, reason: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason


def reasons(body: bytes) -> tuple[set[str], str, str]:
    """Google's words for why (of both of its forms of errors), its message, and the service that it names."""
    try:
        found = json.loads(body)
    except ValueError:
        return set(), "", ""
    error = found.get("error") if isinstance(found, dict) else None
    if not isinstance(error, dict):
        return set(), str(error or ""), ""
    details = [*_dicts(error.get("errors")), *_dicts(error.get("details"))]
    words = {str(one["reason"]) for one in details if isinstance(one.get("reason"), str)}
    if isinstance(error.get("status"), str):
        words.add(error["status"])
    services = [str(one["metadata"].get("service", "")) for one in details if isinstance(one.get("metadata"), dict)]
    return words, str(error.get("message") or ""), next((one for one in services if _SERVICE.fullmatch(one)), "")


def refusal(
    status: int, headers: Mapping[str, str], body: bytes, *, what: str, scopes: Sequence[str], service: str
) -> Refused:
    """The error for an answer other than 401. ``what`` was asked for; ``scopes`` and ``service`` are the server's."""
    words, message, named = reasons(body)
    reason = next(iter(sorted(words & (_SCOPES | _OFF | _WORDS.keys() | LIMITS))), next(iter(sorted(words)), ""))
    return Refused(
        _text(status, headers, words, message, what=what, scopes=scopes, service=named or service),
        status=status,
        reason=reason,
    )


def _text(
    status: int,
    headers: Mapping[str, str],
    words: set[str],
    message: str,
    *,
    what: str,
    scopes: Sequence[str],
    service: str,
) -> str:
    if words & _SCOPES or 'error="insufficient_scope"' in headers.get("www-authenticate", ""):
        wanted = " or ".join(scopes)
        return (
            f"not granted: this needs the scope {wanted}. Run {SIGN_IN} and tick everything it asks for "
            "(if read_only = true or scopes is set for this server in the config, that is what leaves it out)."
        )
    if words & _OFF:
        return (
            f"{service} is not switched on for your OAuth client: enable it at "
            f"https://console.cloud.google.com/apis/library/{service} (in the client's project), and wait a minute."
        )
    if known := next((_WORDS[word] for word in sorted(words) if word in _WORDS), ""):
        return f"{what}: {known}"
    if status == 429 or words & LIMITS:
        return f"{what}: Google takes no more requests for now, and was asked again for a while: try again in a minute"
    if status == 404:
        return f"{what}: not found. It does not exist, or this account may not see it: check the id, or search for it."
    if status >= 500:
        return f"{what}: Google's server failed ({status}), several times: try again later"
    told = f": {one_line(message)}" if message else ""
    return f"{what}: Google refused it ({status}){told}"


def _dicts(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
