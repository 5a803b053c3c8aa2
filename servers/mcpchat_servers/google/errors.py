"""Turns Google's error responses into messages that say what to do."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError

from mcpchat_servers.google.credentials import SIGN_IN_COMMAND
from mcpchat_servers.google.display_names import to_one_line

RATE_LIMIT_REASONS = {
    "rateLimitExceeded",
    "userRateLimitExceeded",
    "RATE_LIMIT_EXCEEDED",
    "quotaExceeded",
    "RESOURCE_EXHAUSTED",
}
_SCOPE_REASONS = {"insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "insufficientScopes"}
_DISABLED_REASONS = {"accessNotConfigured", "SERVICE_DISABLED"}
_SERVICE_NAME = re.compile(r"[a-z-]{2,30}\.googleapis\.com")
_EXPLANATIONS: Mapping[str, str] = {
    "dailyLimitExceeded": "the Cloud project has used its daily quota of requests: try again tomorrow",
    "storageQuotaExceeded": "the account's storage is full: trash files and empty the trash",
    "teamDriveFileLimitExceeded": "the shared drive has reached its limit of files",
    "exportSizeLimitExceeded": "Google exports at most 10 MB of a document: open it in the browser instead",
    "fileNotDownloadable": "this file has no content of its own to download: export it to a format, or read it",
    "cannotDownloadFile": "its owner does not let this account download it",
    "cannotDownloadAbusiveFile": "Google classifies this file as malware or spam and does not allow the download",
    "fileNotExportable": "this kind of Google file cannot be exported",
    "cannotAddParent": "it is in another user's Drive and cannot be moved into a folder here: copy_file makes a copy",
    "cannotCopyFile": "its owner does not let this account copy it",
    "insufficientFilePermissions": "this account may not do that with this file: ask its owner for edit access",
    "insufficientParentPermissions": "this account may not add anything to that folder",
    "appNotAuthorizedToFile": "this login can access only files that were opened with this app",
    "domainPolicy": "the administrator of this Google account does not allow apps to use this service",
    "sharingRateLimitExceeded": "Google accepts no more invitations for now: try again later",
    "invalidSharingRequest": "Google refused to share it; check the address, and whether the owner allows sharing",
    "cannotShareTeamDriveTopFolderWithAnyoneOrDomains": "a shared drive's top folder cannot be shared with everyone",
    "publishOutNotPermitted": "the administrator does not allow sharing this file outside the organization",
}


class ApiError(ToolError):
    """An error response. ``status`` is the HTTP status, ``reason`` Google's reason code."""

    def __init__(self, text: str, *, status: int, reason: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason


def parse_error(body: bytes) -> tuple[set[str], str, str]:
    """Return an error response's reason codes, its message and the service it names; missing values are empty.

    Both of Google's error formats are read.
    """
    try:
        value = json.loads(body)
    except ValueError:
        return set(), "", ""
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict):
        return set(), str(error or ""), ""
    details = [*_only_dicts(error.get("errors")), *_only_dicts(error.get("details"))]
    reason_set = {str(detail["reason"]) for detail in details if isinstance(detail.get("reason"), str)}
    if isinstance(error.get("status"), str):
        reason_set.add(error["status"])
    services = [
        str(detail["metadata"].get("service", "")) for detail in details if isinstance(detail.get("metadata"), dict)
    ]
    return (
        reason_set,
        str(error.get("message") or ""),
        next((name for name in services if _SERVICE_NAME.fullmatch(name)), ""),
    )


def error_from_response(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    what: str,
    scopes: Sequence[str],
    optional_scopes: Sequence[str] = (),
    service: str,
) -> ApiError:
    """Return the error for a response other than 401.

    ``what`` names the requested item; ``scopes`` and ``service`` are the server's. ``optional_scopes`` are needed for
    this request and not asked for by default.
    """
    reason_set, message, service_name = parse_error(body)
    reason = next(
        iter(sorted(reason_set & (_SCOPE_REASONS | _DISABLED_REASONS | _EXPLANATIONS.keys() | RATE_LIMIT_REASONS))),
        next(iter(sorted(reason_set)), ""),
    )
    return ApiError(
        _explain(
            status,
            headers,
            reason_set,
            message,
            what=what,
            scopes=scopes,
            optional_scopes=optional_scopes,
            service=service_name or service,
        ),
        status=status,
        reason=reason,
    )


def _explain(
    status: int,
    headers: Mapping[str, str],
    reason_set: set[str],
    message: str,
    *,
    what: str,
    scopes: Sequence[str],
    optional_scopes: Sequence[str],
    service: str,
) -> str:
    is_unscoped = reason_set & _SCOPE_REASONS or 'error="insufficient_scope"' in headers.get("www-authenticate", "")
    if is_unscoped and optional_scopes:
        names = ", ".join(f'"{scope}"' for scope in (*scopes, *optional_scopes))
        return (
            f"not granted: this needs the scope {' and '.join(optional_scopes)}, which a login does not ask for by "
            f"default. The user writes scopes = [{names}] into this server's table in mcpchat's config, then runs "
            f"{SIGN_IN_COMMAND}."
        )
    if is_unscoped:
        scope_text = " and ".join(scopes)
        return (
            f"not granted: this needs the scope {scope_text}. Run {SIGN_IN_COMMAND} and tick everything it asks for "
            "(if read_only = true or scopes is set for this server in the config, that setting excludes the scope)."
        )
    if reason_set & _DISABLED_REASONS:
        return (
            f"{service} is not enabled for your OAuth client: enable it at "
            f"https://console.cloud.google.com/apis/library/{service} (in the client's project), and wait a minute."
        )
    if explanation := next((_EXPLANATIONS[reason] for reason in sorted(reason_set) if reason in _EXPLANATIONS), ""):
        return f"{what}: {explanation}"
    if status == 429 or reason_set & RATE_LIMIT_REASONS:
        return f"{what}: Google's rate limit was reached, and retries failed: try again in a minute"
    if status == 412:
        return f"{what}: it was changed meanwhile: look at it again; nothing was changed now"
    if status == 404:
        return f"{what}: not found. It does not exist, or this account may not see it: check the id, or search for it."
    if status >= 500:
        return f"{what}: Google's server failed ({status}), several times: try again later"
    detail = f": {to_one_line(message)}" if message else ""
    return f"{what}: Google refused it ({status}){detail}"


def _only_dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
