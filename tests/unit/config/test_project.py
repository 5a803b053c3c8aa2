"""The project file: what it may contain, how it is described before the user trusts it, and the trust itself."""

import os
import sys
import time
from pathlib import Path

import pytest

from mcpchat.config import project_file
from mcpchat.config.project import Project, describe_project, merge, parse_project
from mcpchat.config.project_file import ProjectFile, canonical_path, find_project, merge_project_file
from mcpchat.config.project_trust import ProjectTrustStore, TrustedFile
from mcpchat.config.run import Paths
from mcpchat.config.schema import AgentConfig, AgentOptions, Config, SandboxConfig, ServerConfig
from mcpchat.errors import ConfigError

DECEMBER_24 = time.mktime((2026, 12, 24, 12, 0, 0, 0, 0, -1))


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(
        config=tmp_path / "config.toml", cache=tmp_path / "cache", state=tmp_path / "state", data=tmp_path / "data"
    )


def parse(text: str, user: Config | None = None) -> Project:
    return parse_project(text, "/project/.mcpchat.toml", folder="/project", user=user or Config())


def test_programs_run_in_the_folder_of_the_project() -> None:
    text = """
[servers.here]
command = "run"
[servers.below]
command = "run"
cwd = "tools"
[servers.home]
command = "run"
cwd = "~/tools"
[servers.far]
url = "https://x.example/mcp"
"""
    assert parse(text).servers == {
        "here": ServerConfig(command="run", cwd="/project"),
        "below": ServerConfig(command="run", cwd="/project/tools"),
        "home": ServerConfig(command="run", cwd="~/tools"),
        "far": ServerConfig(url="https://x.example/mcp"),
    }


def test_an_agent_of_a_project_gets_no_rights_and_no_hidden_instructions() -> None:
    text = """\
[agents.a]
instructions_file = "notes.md"
[agents.a.approvals]
default = "allow"
[agents.a.options]
extra_body = { store = true }
"""
    with pytest.raises(ConfigError) as raised:
        parse(text)
    assert raised.value.message.splitlines() == [
        '/project/.mcpchat.toml:2: agents.a.instructions_file: not allowed in a project file: use "instructions", '
        "so that the user can review them",
        "/project/.mcpchat.toml:3: agents.a.approvals: not allowed in a project file: only your own config decides "
        "what may run",
        "/project/.mcpchat.toml:5: agents.a.options: extra_body is not allowed in a project file: only your own config "
        "decides what is sent",
    ]
    assert raised.value.hint == "the file belongs to the project: tell its authors"


def test_the_description_lists_all_that_a_project_would_do() -> None:
    project = Project(
        agents={
            "default": AgentConfig(
                instructions="Be brief.\nCount.", model="big", options=AgentOptions(temperature=0.5)
            ),
            "taken": AgentConfig(instructions="Not shown."),
        },
        servers={
            "files": ServerConfig(
                command="run", args=("a b",), cwd="/project", sandbox=SandboxConfig(read=("/srv",), write=("~/notes",))
            ),
            "far": ServerConfig(url="https://x.example/mcp", headers={"Authorization": "Bearer env:TOKEN"}),
            "mail": ServerConfig(
                builtin="gmail", auth="google", account="ann", scopes=("mail",), folders=("~/saved",), exclude=("send",)
            ),
            "taken": ServerConfig(command="rm"),
        },
    )
    user = Config(agents={"taken": AgentConfig()}, servers={"taken": ServerConfig(command="x")})
    assert describe_project(project, user) == [
        "agent default  (used by default)",
        '  model = "big"',
        '  options = {"temperature":0.5,"reasoning_effort":null,"max_output_tokens":null,"extra_body":{}}',
        "  instructions (2 lines)",
        "    Be brief.",
        "    Count.",
        "agent taken  not used: your config has the same name",
        "server files",
        "  runs      run 'a b'",
        "  in        /project",
        "  reads     /srv",
        "  changes   ~/notes",
        "  sandbox   without network",
        "server far",
        "  contacts  https://x.example/mcp",
        "  gives it  Authorization = Bearer env:TOKEN  (yours)",
        "server mail",
        "  runs      mcpchat's own gmail server",
        "  gives it  your google login of ann",
        "    for     mail",
        "  opens     ~/saved",
        '  auth = "google"',
        '  account = "ann"',
        '  exclude = ["send"]',
        "server taken  not used: your config has the same name",
    ]


def test_the_users_own_servers_and_agents_win() -> None:
    mine, theirs = ServerConfig(command="mine"), ServerConfig(command="theirs")
    user = Config(servers={"box": mine}, agents={"a": AgentConfig(model="mine")})
    project = Project(servers={"box": theirs, "other": theirs}, agents={"a": AgentConfig(model="theirs")})
    merged, notices = merge(user, project)
    assert (merged.servers, merged.agents) == ({"box": mine, "other": theirs}, user.agents)
    assert notices == (
        "the project's server 'box' is left out: your config has the same name",
        "the project's agent 'a' is left out: your config has the same name",
    )


# --- finding and trusting it ------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="other systems limit the path of the working folder")
def test_a_project_file_is_found_above_folders_that_cannot_be_examined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".mcpchat.toml").write_text("# ours\n")
    monkeypatch.chdir(tmp_path)
    for _ in range(25):  # longer than any path that the operating system accepts
        os.mkdir("f" * 200)
        os.chdir("f" * 200)
    found = find_project(exclude=tmp_path / "config.toml")
    assert found == ProjectFile(path=tmp_path / ".mcpchat.toml", text="# ours\n")


def test_the_users_own_config_is_no_project_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".mcpchat.toml").write_text("# mine\n")
    monkeypatch.chdir(tmp_path)
    assert find_project(exclude=tmp_path / ".mcpchat.toml") is None


def test_trust_is_stored_under_the_path_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / ".mcpchat.toml").symlink_to("elsewhere.toml")
    monkeypatch.chdir(tmp_path)
    assert canonical_path(Path("link/.mcpchat.toml")) == tmp_path / "real" / ".mcpchat.toml"


def test_trust_holds_for_one_content_until_it_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: DECEMBER_24)
    store = ProjectTrustStore(tmp_path / "state" / "trusted.json")
    first, second = tmp_path / "a" / ".mcpchat.toml", tmp_path / "b" / ".mcpchat.toml"
    store.trust(first, "old")
    store.trust(second, "other")
    store.trust(first, "new")
    assert [(file.path, file.sha256, file.date) for file in store.list_files()] == [
        (str(second), "other", "2026-12-24"),
        (str(first), "new", "2026-12-24"),
    ]
    assert [store.is_trusted(first, sha256) for sha256 in ("old", "new")] == [False, True]
    assert store.forget(first) is True
    assert store.list_files() == (TrustedFile(path=str(second), sha256="other", since=DECEMBER_24),)
    assert store.forget(first) is False
    assert store.is_trusted(second, "other")


def test_a_project_file_is_used_once_the_user_trusts_it(
    tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".mcpchat.toml"
    path.write_text('[servers.box]\ncommand = "run"\n')
    monkeypatch.chdir(tmp_path)
    user, merged = Config(servers={}), Config(servers={"box": ServerConfig(command="run", cwd=str(tmp_path))})
    refused = (user, (f"{path} is not trusted and left out; mcpchat trust shows its content",))
    assert merge_project_file(user, paths.config, paths) == refused
    assert merge_project_file(user, paths.config, paths, confirm_trust=lambda project, config: False) == refused
    assert merge_project_file(user, paths.config, paths, confirm_trust=lambda project, config: True) == (merged, ())
    assert merge_project_file(user, paths.config, paths) == (merged, ())
    assert [file.path for file in project_file.trusted_files(paths)] == [str(path)]
    path.write_text('[servers.box]\ncommand = "other"\n')
    assert merge_project_file(user, paths.config, paths) == refused


def test_an_invalid_project_file_is_left_out(tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ".mcpchat.toml"
    path.write_text("[limits]\nmax_steps = 3\n")
    monkeypatch.chdir(tmp_path)
    notice = f"{path}:1: limits: unknown key; known: servers, agents: the project file is left out"
    assert merge_project_file(Config(), paths.config, paths, confirm_trust=lambda project, config: True) == (
        Config(),
        (notice,),
    )
