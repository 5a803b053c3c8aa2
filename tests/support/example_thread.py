"""Messages with every kind of part, as the stores' tests save them."""

from mcpchat.core.messages import (
    Compaction,
    File,
    Image,
    Link,
    Message,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)
from mcpchat.core.policy import Decision
from mcpchat.core.server_task import ServerTask
from mcpchat.core.threads import (
    CallMetadata,
    MessageMetadata,
)

PICTURE = Image(media_type="image/png", data=b"\x89PNG" + b"\0" * 9000)
EVERYTHING = (
    Message(
        role="user", parts=(Text(text="Größe? 今日 \0 x"), PICTURE, File(media_type="application/pdf", data=b"%P"))
    ),
    Message(
        role="assistant",
        parts=(Reasoning(text="hm"), ToolCall(id="c1", name="box__echo", arguments='{"a": "\\u0000"}')),
        raw={"items": [{"id": "rs_1", "encrypted_content": "gAAAA"}]},
    ),
    Message(
        role="tool",
        parts=(
            ToolResult(
                call_id="c1",
                parts=(Text(text="long " * 3000), PICTURE, Link(uri="x:y", title="t")),
                structured={"n": [1, None, 2.5]},
            ),
        ),
    ),
    Message(role="system", parts=(Compaction(replaces=2, limit=10, summary="short", keeps=(0,)),)),
    Message(role="assistant", parts=(Text(text="done"),), cut="length"),
)
RECORD = MessageMetadata(
    at=1.5,
    agent="mail",
    model="m@table",
    usage=Usage(input=3, cached=1, estimated=True),
    cost=0.25,
    seconds=1.25,
    calls=(CallMetadata(call_id="c1", tool="box.echo", decision=Decision(allowed=True, by="user"), seconds=0.5),),
)
EXAMPLE_TASK = ServerTask(
    id="3fa21c",
    server="box",
    task_id="the-server's",
    tool="count",
    status="working",
    message="3 of 9",
    created=1.8e9,
    updated=4e9,
    deadline=1.9e9,
    poll_interval=2.5,
)
