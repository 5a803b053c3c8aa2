"""Edits of the config file: handwritten parts do not change."""

import codecs
import tomllib
from pathlib import Path

import pytest

from mcpchat.config import edit, schema
from mcpchat.config.edit import add_allowed, add_server, replace_server
from mcpchat.errors import ConfigError, UsageError

HANDWRITTEN = """\
# my servers

[approvals]  # careful
default = "ask"

[servers.box]   # the box
command = "box"   # by hand

[agents.a]
servers = ["box"]
"""


def test_a_server_is_added_without_other_changes() -> None:
    text = edit.add_server(HANDWRITTEN, "far", {"url": "https://x.example/mcp", "headers": {"A": "env:T"}})
    for line in HANDWRITTEN.splitlines():
        assert line in text.splitlines()
    servers = schema.parse(text, "c").servers
    assert text.startswith(HANDWRITTEN)
    assert list(servers) == ["box", "far"]
    assert (servers["far"].url, servers["far"].headers) == ("https://x.example/mcp", {"A": "env:T"})


def test_adding_the_first_server_keeps_the_calculator() -> None:
    servers = schema.parse(edit.add_server("[limits]\nmax_steps = 3\n", "a", {"command": "b"}), "c").servers
    assert [(name, server.builtin) for name, server in servers.items()] == [("calculator", "calculator"), ("a", None)]


def test_disable_enable_and_remove() -> None:
    disabled = edit.enable_server(HANDWRITTEN, "box", False)
    assert schema.parse(disabled, "c").servers["box"].enabled is False
    assert 'command = "box"   # by hand' in disabled
    assert schema.parse(edit.enable_server(disabled, "box", True), "c").servers["box"].enabled
    assert "box" not in edit.remove_server("[servers.box]\ncommand = 'x'\n", "box").replace("\n", "")


WITH_COMMENTS = """\
# both

[servers.one]  # first
command = "a"

# about two
[servers.two]
enabled = true   # for now
command = "b"
"""


@pytest.mark.parametrize("name", ["one", "two"])
def test_a_switch_changes_one_line_only(name: str) -> None:
    disabled = edit.enable_server(WITH_COMMENTS, name, False)
    old, new = WITH_COMMENTS.splitlines(), disabled.splitlines()
    if name == "one":
        assert new == [*old[:3], "enabled = false", *old[3:]]
    else:
        assert new == [line.replace("enabled = true ", "enabled = false ") for line in old]
    assert schema.parse(disabled, "c").servers[name].enabled is False


@pytest.mark.parametrize(
    "text",
    [
        'servers.one = { command = "a" }\n',
        '[servers]\none = { command = "a" }\n',
        '[servers]\none.command = "a"\n',
        '[servers."one"]\ncommand = """\nenabled = true\n"""\n',
        "[servers.one]\ncommand = 'a'",
        "[ servers . one ]\ncommand = 'a'\n[servers.one.env]\nA = 'b'",
    ],
)
def test_a_switch_works_in_every_notation(text: str) -> None:
    servers = schema.parse(edit.enable_server(text, "one", False), "c").servers
    assert servers["one"].enabled is False
    assert servers["one"].command == schema.parse(text, "c").servers["one"].command


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_edits_keep_line_ends_and_the_byte_order_mark(tmp_path: Path, mark: bytes, end: bytes) -> None:
    path = tmp_path / "c.toml"
    original = mark + WITH_COMMENTS.encode().replace(b"\n", end) + b"# no line end"
    path.write_bytes(original)
    edit.update(path, lambda text: edit.enable_server(text, "two", False))
    assert path.read_bytes() == original.replace(b"enabled = true", b"enabled = false")
    edit.update(path, lambda text: edit.enable_server(text, "two", True))
    assert path.read_bytes() == original
    edit.update(path, lambda text: edit.add_server(text, "three", {"command": "c"}))
    assert path.read_bytes() == original + end + end + b"[servers.three]" + end + b'command = "c"' + end
    edit.update(path, lambda text: edit.remove_server(text, "one"))
    assert path.read_bytes().count(b"\n") == path.read_bytes().count(end)


def test_mixed_line_ends_stay_mixed(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"[servers.one]\r\ncommand = 'a'\n# x\r\n")
    edit.update(path, lambda text: edit.enable_server(text, "one", False))
    assert path.read_bytes() == b"[servers.one]\r\nenabled = false\r\ncommand = 'a'\n# x\r\n"


def test_removing_a_server_keeps_the_comments_below() -> None:
    text = """\
[servers.keep]
command = "k"

[servers.box]   # the box
command = "b"
# about the arguments
args = [
  "[servers.fake]",
]

[servers.box.env]
A = "b"

# about the limits
[limits]
max_steps = 3
"""
    assert (
        edit.remove_server(text, "box")
        == """\
[servers.keep]
command = "k"


# about the limits
[limits]
max_steps = 3
"""
    )
    inline_tables = 'servers.a = { command = "x" }\nservers.b = { command = "y" }\n'
    assert list(schema.parse(edit.remove_server(inline_tables, "a"), "c").servers) == ["b"]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda: edit.add_server(HANDWRITTEN, "box", {"command": "x"}), "there is a server named 'box' already"),
        (lambda: edit.remove_server(HANDWRITTEN, "bax"), "no server named 'bax'; did you mean box?"),
        (lambda: edit.enable_server(HANDWRITTEN, "zzz", True), "no server named 'zzz'; known: box"),
    ],
)
def test_an_impossible_edit_is_reported(edit: object, expected: str) -> None:
    with pytest.raises(UsageError) as error_info:
        edit()  # type: ignore[operator]
    assert expected in error_info.value.message


def test_an_edit_that_breaks_the_file_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(HANDWRITTEN)
    with pytest.raises(ConfigError, match="no server is named 'box'"):
        edit.write(path, edit.remove_server(edit.add_server(HANDWRITTEN, "b", {"command": "x"}), "box"))
    assert path.read_text() == HANDWRITTEN
    assert list(tmp_path.iterdir()) == [path]


def test_links_and_permissions_are_kept(tmp_path: Path) -> None:
    target = tmp_path / "dotfiles.toml"
    target.write_text(HANDWRITTEN)
    target.chmod(0o640)
    link = tmp_path / "config.toml"
    link.symlink_to(target)
    edit.write(link, edit.add_server(HANDWRITTEN, "b", {"command": "x"}))
    assert link.is_symlink()
    assert "[servers.b]" in target.read_text()
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_text_that_looks_like_a_table_survives_the_removal_of_that_table() -> None:
    text = '[agents.a]\ninstructions = """\n[servers.box]\n"""\n\n[servers.box]\ncommand = "b"\n'
    removed = schema.parse(edit.remove_server(text, "box"), "c")
    assert removed.agents["a"].instructions == "[servers.box]\n"
    assert "box" not in removed.servers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[servers\n", "the config is not valid TOML: "),
        ("servers = 3\n", "servers: expected a table"),
    ],
)
def test_a_file_that_is_no_config_is_not_edited(text: str, message: str) -> None:
    for change in (
        lambda: edit.add_server(text, "a", {"command": "x"}),
        lambda: edit.add_agent(text, "a", {}),
        lambda: edit.remove_server(text, "a"),
        lambda: edit.enable_server(text, "a", True),
    ):
        with pytest.raises(ConfigError) as raised:
            change()
        assert raised.value.message.startswith(message)
        assert raised.value.hint == "mcpchat config validate"


def test_a_file_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as raised:
        edit.write(tmp_path / "file" / "config.toml", HANDWRITTEN)
    assert raised.value.message == f"cannot write {tmp_path / 'file' / 'config.toml'}: Not a directory"
    (tmp_path / "config.toml").write_text(HANDWRITTEN)
    with pytest.raises(ConfigError) as raised:
        edit.create(tmp_path / "config.toml", "", "{}")
    assert raised.value.message == f"cannot write {tmp_path / 'config.toml'}: File exists"
    assert raised.value.hint == "choose another path with --config"
    assert (tmp_path / "config.toml").read_text() == HANDWRITTEN


def test_a_schema_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    schema_path = tmp_path / "mcpchat.schema.json"
    schema_path.mkdir()
    with pytest.raises(ConfigError) as raised:
        edit.create(tmp_path / "config.toml", HANDWRITTEN, "{}")
    reasons = ("Is a directory", "Operation not permitted")  # on Linux, on macOS
    assert raised.value.message in [f"cannot write {schema_path}: {reason}" for reason in reasons]


def test_the_config_and_its_schema_belong_to_their_owner(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "config.toml"
    edit.create(path, HANDWRITTEN, "{}")
    contents = {file.name: (file.read_text(), file.stat().st_mode & 0o777) for file in path.parent.iterdir()}
    assert contents == {"config.toml": (HANDWRITTEN, 0o600), "mcpchat.schema.json": ("{}", 0o600)}
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_replaced_server_brings_no_other() -> None:
    text = replace_server('[servers.notes]\ncommand = "a"\n', "notes", {"command": "b"})
    assert tomllib.loads(text) == {"servers": {"notes": {"command": "b"}}}
    assert set(tomllib.loads(replace_server("", "notes", {"command": "b"}))["servers"]) == {"calculator", "notes"}


def test_a_server_joins_an_inline_table() -> None:
    text = add_server('servers = {a = {command = "cat"}}\n', "b", {"command": "x", "env": {"A": "1"}})
    assert tomllib.loads(text)["servers"]["b"] == {"command": "x", "env": {"A": "1"}}


def test_an_allowed_pattern_is_added_in_its_own_table() -> None:
    text = '[approvals]\nask = ["x.*"]\n\n# about a\n[servers.a]\ncommand = "a"\n'
    edited = add_allowed(text, ["a.read"])
    assert edited == text.replace("[approvals]\n", '[approvals]\nallow = ["a.read"]\n')
    assert tomllib.loads(add_allowed(edited, ["a.read", "a.list"]))["approvals"]["allow"] == ["a.read", "a.list"]
    assert tomllib.loads(add_allowed("", ["a.b"])) == {"approvals": {"allow": ["a.b"]}}
    for broken in ("approvals = 3\n", '[approvals]\nallow = "x"\n'):
        with pytest.raises(ConfigError):
            add_allowed(broken, ["a.b"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[model]\nname = "n"\napi_key = "env:K"\n'),
        ("# top\n[model]\n# name = \"x\"\n\n[chat]\n", '# top\n[model]\nname = "n"\napi_key = "env:K"\n# name = "x"\n\n[chat]\n'),
        ('[model]\nname = "old"\nbase_url = "https://a.example"\napi = "chat"\n', '[model]\nname = "n"\napi_key = "env:K"\napi = "chat"\n'),
        ('model = {name = "old", base_url = "https://a.example"}\n', 'model = { name = "n", api_key = "env:K"}\n'),
        ('[model.local]\nname = "l"\n', '[model]\nname = "n"\napi_key = "env:K"\n\n[model.local]\nname = "l"\n'),
        ("[model]", '[model]\nname = "n"\napi_key = "env:K"\n'),
    ],
)  # fmt: skip
def test_keys_of_a_table_are_set(before: str, after: str) -> None:
    values = {"name": "n", "base_url": None, "api_key": "env:K"}
    assert edit.set_values(before, "model", values) == after
    schema.parse(after, "c")


def test_a_server_keeps_what_another_client_does_not_know() -> None:
    text = '[servers.a]\n# mine\ncommand = "x"\nenv = {A = "b"}\ntrust = true\n'
    merged = edit.merge_server(text, "a", {"url": "https://a.example"}, ("command", "args", "url", "env"))
    assert (
        schema.parse(merged, "c").servers["a"]
        == schema.parse('[servers.a]\nurl = "https://a.example"\ntrust = true\n', "c").servers["a"]
    )


def test_a_text_of_a_server_is_set_in_its_place() -> None:
    text = '# top\n[servers.a]  # mine\ncommand = "x"\nenv = {A = "secret", B = "b"} # why\n\n[servers.b]\nurl = "https://b"\n'
    after = edit.set_server_value(text, "a", "env.A", "keyring:a")
    assert after == text.replace('"secret"', '"keyring:a"')
    with pytest.raises(UsageError, match="no server named 'c'"):
        edit.set_server_value(text, "c", "env.A", "x")


INSTRUCTIONS = '''[agents.a]
instructions = """
[servers.notes]
command = "old"
[approvals]
[model]
name = "x"
"""
[servers.notes]
command = "real"
[approvals]
default = "ask"
[model]
api = "chat"
'''


def test_a_text_that_looks_like_a_table_stays() -> None:
    before = tomllib.loads(INSTRUCTIONS)
    for after, table, key, value in (
        (
            edit.merge_server(INSTRUCTIONS, "notes", {"command": "y"}, ("command",)),
            "servers",
            "notes",
            {"command": "y"},
        ),
        (add_allowed(INSTRUCTIONS, ["notes.read"]), "approvals", "allow", ["notes.read"]),
        (edit.set_values(INSTRUCTIONS, "model", {"name": "demo"}), "model", "name", "demo"),
    ):
        assert tomllib.loads(after) == {**before, table: {**before[table], key: value}}
