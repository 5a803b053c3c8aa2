"""mcpchat: talk to your MCP servers from the terminal and from scripts.

As a library: ``from mcpchat import open_session``. What it gives is imported when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mcpchat.version import __version__

if TYPE_CHECKING:
    from mcpchat import errors
    from mcpchat.api import (
        ApprovalRequest,
        Audio,
        CallReport,
        ChatSession,
        Decision,
        ElicitationResult,
        ErrorReport,
        Event,
        File,
        Form,
        Image,
        Link,
        McpChatError,
        Message,
        Report,
        Text,
        ToolCall,
        ToolResult,
        UrlRequest,
        Usage,
        UserDialog,
        events,
        open_session,
    )

__all__ = [
    "ApprovalRequest",
    "Audio",
    "CallReport",
    "ChatSession",
    "Decision",
    "ElicitationResult",
    "ErrorReport",
    "Event",
    "File",
    "Form",
    "Image",
    "Link",
    "McpChatError",
    "Message",
    "Report",
    "Text",
    "ToolCall",
    "ToolResult",
    "UrlRequest",
    "Usage",
    "UserDialog",
    "__version__",
    "errors",
    "events",
    "open_session",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("mcpchat.api"), name)
    raise AttributeError(f"module 'mcpchat' has no attribute {name!r}")
