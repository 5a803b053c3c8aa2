"""mcpchat: talk to your MCP servers from the terminal and from scripts.

As a library: ``from mcpchat import open_session``. Each name is imported when it is first used. docs/library.md
describes them.
"""

from mcpchat.version import __version__

TYPE_CHECKING = False  # as typing's, whose import would double the time of a command that runs warm
if TYPE_CHECKING:
    from typing import Any

    from mcpchat import errors
    from mcpchat.api import (
        ApprovalRequest,
        Audio,
        BatchResult,
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
        call_tool,
        events,
        open_session,
        run_batch,
    )

__all__ = [
    "ApprovalRequest",
    "Audio",
    "BatchResult",
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
    "call_tool",
    "errors",
    "events",
    "open_session",
    "run_batch",
]  # fmt: skip


_RENAMED = {
    "Answer": "ElicitationResult",
    "Asker": "UserDialog",
    "Fault": "ErrorReport",
    "Question": "ApprovalRequest",
    "Visit": "UrlRequest",
}  # earlier names of public classes, which still work


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    name_today = _RENAMED.get(name, name)
    if name_today in __all__:
        return getattr(import_module("mcpchat.api"), name_today)
    raise AttributeError(f"module 'mcpchat' has no attribute {name!r}")
