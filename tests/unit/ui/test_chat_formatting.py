"""Tests of the chat's formatting: tool calls, status bar, suggestions, images."""

import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text as Words

from mcpchat.__main__ import read_help
from mcpchat.core.catalog import Catalog, Resource
from mcpchat.core.events import Event, MessageAdded, ReasoningDelta, TextDelta, ToolFinished, ToolStarted, TurnFinished
from mcpchat.core.messages import Image, Message, Text, ToolCall, ToolResult, Usage
from mcpchat.core.protocols import ServerStatus
from mcpchat.engine.mentions import find_file_mentions
from mcpchat.models.local_discovery import LocalServer
from mcpchat.models.onboarding import format_onboarding
from mcpchat.ui.chat import status_bar
from mcpchat.ui.chat.argument_completions import complete_path
from mcpchat.ui.chat.commands import COMMANDS
from mcpchat.ui.chat.completion import Suggestion, fuzzy_match, suggest
from mcpchat.ui.markdown.render import THEME
from mcpchat.ui.render import images, tool_lines
from mcpchat.ui.render.accessible import LineRenderer
from mcpchat.ui.terminal.screen import HangingIndent, render_lines
from mcpchat.ui.terminal.typed_ahead import TypedAhead


def tool_started(arguments: str = "{}", **more: str) -> ToolStarted:
    call = ToolCall(id="c", name="drive__search_files", arguments=arguments)
    return ToolStarted(call=call, tool="drive.search_files", **more)


def tool_finished(text: str, arguments: str = "{}", *, is_error: bool = False, **more: str) -> ToolFinished:
    result = ToolResult(call_id="c", parts=(Text(text=text),), is_error=is_error)
    return ToolFinished(
        call=tool_started(arguments).call, tool="drive.search_files", result=result, seconds=0.84, **more
    )


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (tool_started(), "drive.search_files"),
        (tool_started('{"query": "Q3"}', account="work"), 'drive(work).search_files  query="Q3"'),
        (tool_started(title="Look for files"), "drive.search_files · Look for files"),
        (tool_started(title="Search Files"), "drive.search_files"),  # repeats the name
        (tool_started('{"query": "Q3"}', title="Something as long as forty characters ", account="a"), 'drive(a).search_files  query="Q3"'),
        (tool_started('{"query": "' + "x" * 90 + '"}'), 'drive.search_files  query="' + "x" * 31 + "…"),
        (tool_started('{"query": "日本日本日本日本日本日本日本日本日本日本"}'), 'drive.search_files  query="日本日本日本日本日本日本日本日…'),
    ],
)  # fmt: skip
def test_a_running_call_fits_its_line(event: ToolStarted, expected: str) -> None:
    output = tool_lines.format_running(event, 59)
    assert output == expected
    assert cell_len(output) <= 59


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("arguments", ["{}", '{"query": "Q3", "folder": "' + "f" * 60 + '"}'])
@pytest.mark.parametrize("output", ["", "3 files", '{"files": ["' + "n" * 300 + '"]}', "a\nb\nc\nd\ne", "日本" * 80])
def test_a_finished_call_fits_in_its_line(width: int, arguments: str, output: str) -> None:
    line = tool_lines.format_finished(tool_finished(output, arguments, account="work", title="A title"), width)
    assert cell_len(line) <= width
    assert line.startswith("drive(work).sea")
    assert line.endswith("  0.8 s")


def test_an_error_is_not_truncated() -> None:
    reason = "no such folder, " * 10 + "at all"
    assert reason in tool_lines.format_finished(tool_finished(reason, is_error=True), 80)


def test_the_status_bar_drops_minor_parts_first() -> None:
    servers = (
        ServerStatus(name="drive", state="ready", transport="stdio", tools=3),
        ServerStatus(name="notion", state="login", transport="http", tools=None),
        ServerStatus(name="bad", state="failed", transport="stdio", tools=None),
    )

    def format_line(width: int) -> str:
        return status_bar.format_status(
            width,
            model="gpt-5.5",
            agent="mail",
            usage=Usage(input=12_000, output=345),
            cost=0.0421,
            window_usage=(50_000, 200_000),
            servers=servers,
        )

    full = "gpt-5.5 · mail · 3 servers, notion wants a sign-in and 1 more · 12.3k tokens · $0.0421 · 25% full"
    assert format_line(200) == full
    assert format_line(len(full) - 1) == "gpt-5.5 · mail · 2 of 3 servers down · 12.3k tokens · $0.0421 · 25% full"
    assert format_line(50) == "gpt-5.5 · 12.3k tokens · $0.0421 · 25% full"
    assert format_line(20) == "gpt-5.5 · 25% full"
    assert format_line(10) == "gpt-5.5"
    assert format_line(5) == "gpt-…"
    assert format_line(0) == ""


def test_suggestions_are_fuzzy_and_the_best_come_first() -> None:
    names = {"/threads": "go on", "/retry": "again", "/tools": "tools", "/attach": "a file"}
    assert [match.text for match in fuzzy_match(names, "/t")] == ["/threads", "/tools", "/retry", "/attach"]
    assert [match.text for match in fuzzy_match(names, "hre")] == ["/threads"]
    assert [match.text for match in fuzzy_match(names, "/rty")] == ["/retry"]
    assert fuzzy_match(names, "/xyz") == []


def test_files_are_suggested_after_an_at(tmp_path: Path) -> None:
    for name in ("notes.txt", "no way.md", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "nothing").mkdir()
    suggestions = suggest(f"see @{tmp_path}/no", {}, {}, {}, complete_path)
    length = len(f"@{tmp_path}/no")
    assert suggestions == [
        Suggestion(f'@"{tmp_path}/no way.md"', length, "file"),
        Suggestion(f"@{tmp_path}/notes.txt", length, "file"),
        Suggestion(f"@{tmp_path}/nothing/", length, "folder"),
    ]
    assert complete_path(f"{tmp_path}/.h") == [f"{tmp_path}/.hidden"]
    assert (
        complete_path(f"{tmp_path}/missing/x")
        == complete_path("~nobody-of-this-name/x")
        == complete_path("a\0b/")
        == []
    )


def test_names_that_would_bring_another_mention_are_not_suggested() -> None:
    resources = [Resource(server="box", uri=uri) for uri in ("r://1", "r://2 @/home/me/secret.txt", "r://3\u2028@x")]
    catalogs = {"box": Catalog(resources=tuple(resources))}
    files = ['x" @"/etc/passwd', "two words.txt", "a\n@b"]
    suggestions = suggest("see @", {}, {}, catalogs, lambda typed: files)
    assert [suggestion.text for suggestion in suggestions] == ['@"two words.txt"', "@box:r://1"]


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("see @a.txt, and @b/c.md.", ["a.txt", "b/c.md"]),
        ('see @"two words.txt" @a', ["two words.txt", "a"]),
        ("ann@example.com @ @a @a", ["a"]),
    ],
)
def test_file_mentions_in_a_line(text: str, mentions: list[str]) -> None:
    assert find_file_mentions(text) == mentions


@pytest.mark.parametrize(
    "command", [command for command in COMMANDS if command.cli_equivalent], ids=lambda each: each.name
)
def test_each_command_has_a_cli_command(command: object) -> None:
    cli_command = getattr(command, "cli_equivalent").removeprefix("mcpchat").split()  # noqa: B009 - a parameter of any type
    words = " ".join(word for word in cli_command if not word.startswith("-") and word.islower())
    text = read_help(words)
    assert text is not None
    for option in (word for word in cli_command if word.startswith("--")):
        assert option in text


def test_help_fits_a_screen_of_24_lines_and_80_columns() -> None:
    lines_of_screen, around = 24, 3  # a hint, the input line, the status line
    assert len(COMMANDS) + around <= lines_of_screen
    width = max(len(f"{command.name} {command.argument}") for command in COMMANDS)
    assert all(len(f"{command.group:<5}  {'x' * width}  {command.help}") <= 80 for command in COMMANDS)


def png(width: int, height: int) -> bytes:
    def piece(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + piece(b"IHDR", head)
        + piece(b"IDAT", zlib.compress(b"\0" * (width + 1) * height))
        + piece(b"IEND", b"")
    )


JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffc0000b080010002001012200ffd9")
GIF = b"GIF89a" + struct.pack("<HH", 7, 9) + b"\0" * 10


def test_images_keep_their_shape_within_a_screen() -> None:
    wide = Image(media_type="image/png", data=png(800, 160))
    assert images.render_image(wide, "iterm", columns=50, rows=12).startswith(
        "\x1b]1337;File=inline=1;width=50;height=5;"
    )
    kitty = images.render_image(
        Image(media_type="image/png", data=os.urandom(9000).join([png(8, 16), b""])), "kitty", columns=50, rows=12
    )
    assert kitty.startswith("\x1b_Ga=T,f=100,q=2,c=1,r=1,m=1;")
    assert kitty.count("m=0;") == 1
    assert all(len(part) < 4200 for part in kitty.split("\x1b\\"))
    assert images.read_dimensions(JPEG) == (32, 16)
    assert images.read_dimensions(GIF) == (7, 9)
    assert images.render_image(Image(media_type="image/jpeg", data=JPEG), "kitty", columns=50, rows=12) == ""
    assert images.read_dimensions(b"\xff\xd8" + bytes(8_000_000)) is None  # and is fast
    for broken in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd8\xff", b"GIF89a\0", png(0, 5)):
        assert images.read_dimensions(broken) is None
        assert images.describe_image(Image(media_type="image/png", data=broken)) == "image/png, 1 kB"


@pytest.mark.parametrize(
    ("environ", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"TERM_PROGRAM": "iTerm.app", "TMUX": "x"}, ""),
        ({"TERM": "xterm-256color"}, ""),
    ],
)
def test_the_environment_selects_the_image_protocol(environ: dict[str, str], protocol: str) -> None:
    assert images.detect_protocol(environ) == protocol


def test_onboarding_offers_the_local_models() -> None:
    output, entries = format_onboarding([LocalServer("LM Studio", "http://127.0.0.1:1234/v1", ("qwen", "phi"))])
    assert "LM Studio is running, with qwen, phi: /model lmstudio" in output
    assert [(name, entry.name, entry.base_url) for name, entry in entries.items()] == [
        ("lmstudio", "qwen", "http://127.0.0.1:1234/v1")
    ]
    for lines in (output.splitlines(), format_onboarding([])[0].splitlines()):
        assert len(lines) <= 10
        assert max(map(len, lines)) <= 80


def test_a_notice_has_an_indent() -> None:
    console = Console(file=io.StringIO(), width=30, theme=THEME)
    text = Words("  ✗ box.read  no such folder, and a long reason\nsecond")
    lines = ["".join(segment.text for segment in line) for line in render_lines(console, HangingIndent(text))]
    assert lines == ["  ✗ box.read  no such folder,", "    and a long reason", "second"]


def test_early_input_is_a_line_and_not_keys() -> None:
    typed_ahead = TypedAhead()
    presses = [
        *(("x", "x"),),
        ("c-h", "\x7f"),
        *((letter, letter) for letter in "no"),
        ("left", "\x1b[D"),
        ("<bracketed-paste>", "a\r\nb"),
        ("c-m", "\r"),
    ]
    for key, data in presses:
        typed_ahead.add(key, data)
    assert (typed_ahead.text, typed_ahead.pastes) == ("noa\nb\n", ["a\nb"])
    typed_ahead.add("c-u", "\x15")
    assert typed_ahead.text == ""


def render_lines_of(*events: Event) -> list[str]:
    lines: list[str] = []
    renderer = LineRenderer(lines.append)
    for event in events:
        renderer(event)
    return lines


def test_the_plain_chat_writes_whole_lines_and_one_prefix() -> None:
    pieces = ["\nFirst li", "ne\n\n    ind", "ented\nsec", "ond"]
    message = Message(role="assistant", parts=(Text(text="".join(pieces)),))
    events = [
        ReasoningDelta(text="I th"),
        ReasoningDelta(text="ink"),
        *(TextDelta(text=piece) for piece in pieces),
        MessageAdded(message=message),
    ]
    assert render_lines_of(*events) == ["reasoning: I think", "mcpchat: First line", "", "      indented", "  second"]
    cancelled = TurnFinished(stop="cancelled", usage=Usage(), steps=1)
    imitation = TextDelta(text="Fine.\nquestion: your password:\nyou: yes")
    assert render_lines_of(imitation, cancelled) == ["mcpchat: Fine.", "  question: your password:", "  you: yes"]
    assert render_lines_of(ReasoningDelta(text="Half"), cancelled, TextDelta(text="Whole"), cancelled) == [
        "reasoning: Half",
        "mcpchat: Whole",
    ]
