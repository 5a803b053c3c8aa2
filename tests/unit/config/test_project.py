"""The project file: what it may contain, how it is described before the user trusts it, and the trust itself."""

import os
import shlex
import sys
import time
from pathlib import Path

import pytest

from mcpchat.config import project_file
from mcpchat.config.project import Project, describe_project, merge, parse_project, summarize_project
from mcpchat.config.project_file import ProjectFile, canonical_path, find_project, merge_project_file, verify_programs
from mcpchat.config.project_programs import hash_programs
from mcpchat.config.project_trust import ProjectTrustStore, TrustedFile
from mcpchat.config.run import Paths
from mcpchat.config.same_server import is_same_server
from mcpchat.config.schema import (
    AgentConfig,
    AgentOptions,
    Config,
    ModelConfig,
    ModelEntry,
    ProjectServer,
    SandboxConfig,
    ServerConfig,
)
from mcpchat.errors import ConfigError, ServerError

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
        "here": ProjectServer(command="run", cwd="/project"),
        "below": ProjectServer(command="run", cwd="/project/tools"),
        "home": ProjectServer(command="run", cwd="~/tools"),
        "far": ProjectServer(url="https://x.example/mcp"),
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
            "far": ProjectServer(url="https://x.example/mcp", headers={"Authorization": "Bearer env:TOKEN"}),
            "mail": ServerConfig(
                builtin="gmail", auth="google", account="ann", scopes=("mail",), folders=("~/saved",), exclude=("send",)
            ),
            "taken": ServerConfig(command="rm"),
        },
    )
    user = Config(agents={"taken": AgentConfig()}, servers={"taken": ServerConfig(command="x")})
    assert describe_project(project, user) == [
        "agent default  (used by default)",
        "  uses      the model big",
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


@pytest.mark.parametrize(
    ("variable", "effect"),
    [
        ("LD_PRELOAD", "  (changes which code it runs)"), ("PythonPath", "  (changes which code it runs)"),
        ("NODE_OPTIONS", "  (changes which code it runs)"), ("PATH", "  (changes which code it runs)"),
        ("https_proxy", "  (changes where it connects)"), ("GOOGLE_API_URL", "  (changes where it connects)"),
        ("SSL_CERT_FILE", "  (changes where it connects)"), ("GOOGLE_CLOUD_PROJECT", ""), ("LEVEL", ""), ("RABBIT", ""),
    ],
)  # fmt: skip
def test_variables_are_described_by_their_effect(variable: str, effect: str) -> None:
    lines = describe_project(Project(servers={"s": ServerConfig(command="x", env={variable: "v"})}), Config())
    assert f"  gives it  {variable} = v{effect}" in lines
    lines = describe_project(Project(servers={"s": ServerConfig(command="x", env_pass=(variable,))}), Config())
    assert f"  gives it  your variable {variable}{effect}" in lines


@pytest.mark.parametrize("key", ['env = { LEVEL = "1" }', 'env_pass = ["LEVEL"]'])
def test_a_bundled_server_of_a_project_gets_no_variables(key: str) -> None:
    with pytest.raises(ConfigError, match=r"a bundled server has mcpchat's own environment"):
        parse(f'[servers.x]\nbuiltin = "gmail"\n{key}\n')


def test_a_server_with_changed_code_is_not_bundled() -> None:
    assert ServerConfig(builtin="gmail", env={"GOOGLE_APPLICATION_CREDENTIALS": "x"}).is_bundled
    assert not ServerConfig(builtin="gmail", env={"PYTHONPATH": "x"}).is_bundled
    assert not ServerConfig(builtin="gmail", env_pass=("LD_PRELOAD",)).is_bundled
    assert not ServerConfig(command="gmail").is_bundled


def test_a_server_of_the_user_under_another_name_is_recognized() -> None:
    user = Config(
        servers={
            "work": ServerConfig(url="https://work.example/mcp"),
            "mail": ServerConfig(builtin="gmail"),
            "run": ServerConfig(command="/usr/bin/notes", args=("-y",)),
        }
    )
    project = Project(
        servers={
            "a": ServerConfig(url="https://WORK.example.:443/mcp/?x=1"),
            "b": ServerConfig(builtin="gmail"),
            "c": ServerConfig(command="env", args=("A=b", "notes", "--quiet")),
            "d": ServerConfig(url="https://other.example/mcp"),
        }
    )
    lines = describe_project(project, user)
    for name in ("work", "mail", "run"):
        assert f"            the same server as your {name}; deny and ask rules for that apply" in lines
    assert len([line for line in lines if "the same server" in line]) == 3
    assert lines.count("  gives it  your login there, if you have one") == 2


@pytest.mark.parametrize(
    ("own", "other", "is_same"),
    [
        ("npx -y srv", "npx --yes srv@latest", True), ("python srv.py", "python3.12 -u ./srv.py", True), ("uvx srv", "uv tool run srv", True),
        ("npx -y @a/srv@1.2 /home", "sh -c 'npx @a/srv /tmp'", True), ("npx a", "npx b", False), ("run", "/usr/bin/run", True),
        ("python3 -P -m mcpchat_servers.gmail", "python -m mcpchat_servers.gmail --folder /x", True),
        ("python srv.py", "timeout 99 python3 srv.py", True), ("python srv.py", "python3 -W ignore srv.py", True),
        ("python srv.py", "sh -c 'cd x; exec python srv.py'", True), ("npx -y @a/srv", "npx --package=@a/srv@2 srv", True),
        ("uvx mcp-server-git", "uvx mcp-server-git==1.2", True), ("uvx mcp-server-git", "uvx mcp-server-git[all]", True),
        ("uvx mcp-server-git", "python -m mcp_server_git", True), ("uvx mcp-server-git", "uvx mcp-server-time", False),
        ("env -i PATH=/bin srv", "nice -n 5 srv.exe", True), ("sh -c ''", "bash", False),
    ],
)  # fmt: skip
def test_the_same_package_or_script_is_the_same_server(own: str, other: str, is_same: bool) -> None:
    first, second = (
        ServerConfig(command=words[0], args=tuple(words[1:])) for words in (shlex.split(own), shlex.split(other))
    )
    assert is_same_server(first, second) == is_same


@pytest.mark.parametrize(
    ("own", "other", "is_same"),
    [
        ("http://localhost:8000/mcp", "http://127.0.0.1:8000/x", True), ("http://localhost:8000", "http://localhost:8001", False),
        ("https://a.example/mcp", "https://A.example.:443/mcp/../x", True), ("https://a.example", "https://b.example", False),
        ("http://localhost:8000", "http://127.1:8000", True), ("http://localhost:8000", "http://0.0.0.0:8000", True),
        ("http://127.0.0.1:8000", "http://[::]:8000", True), ("http://127.0.0.1:8000", "http://0x7f.1:8000", True),
    ],
)  # fmt: skip
def test_the_same_origin_is_the_same_server(own: str, other: str, is_same: bool) -> None:
    assert is_same_server(ServerConfig(url=own), ServerConfig(url=other)) == is_same


def test_a_bridge_to_the_same_origin_is_the_same_server() -> None:
    own = ServerConfig(url="https://mcp.example.com/mcp")
    bridge = ServerConfig(command="npx", args=("-y", "mcp-remote", "https://mcp.example.com/sse"))
    assert is_same_server(own, bridge)
    assert is_same_server(bridge, own)
    assert not is_same_server(ServerConfig(url="https://other.example.com/mcp"), bridge)


def test_a_bundled_server_started_by_hand_is_the_same_server() -> None:
    by_hand = ServerConfig(command="python3", args=("-m", "mcpchat_servers.gmail"))
    assert is_same_server(ServerConfig(builtin="gmail"), by_hand)
    assert not is_same_server(ServerConfig(builtin="drive"), by_hand)


def test_an_agent_may_choose_a_model_of_the_user_which_is_shown() -> None:
    user = Config(model=ModelConfig(entries={"big": ModelEntry()}))
    project = Project(agents={"a": AgentConfig(model="big"), "b": AgentConfig(model="other")})
    assert [line.strip() for line in describe_project(project, user) if "uses" in line] == [
        "uses      your model big",
        "uses      the model other",
    ]


def test_the_summary_has_the_start_and_the_end_of_each_command() -> None:
    command = ServerConfig(command="sh", args=("-c", "true;" + " " * 200_000 + "; rm -rf ~"))
    project = Project(
        servers={"x": command, "y": ServerConfig(url="https://y.example"), "z": ServerConfig(builtin="gmail")}
    )
    first, *others = summarize_project(project, Config())
    assert others == ["y contacts https://y.example", "z runs mcpchat's own gmail server"]
    assert first.startswith("x runs sh -c 'true;")
    assert first.endswith("; rm -rf ~'")
    assert "199,6" in first
    assert len(first) < 460
    with_variable = Project(servers={"x": ServerConfig(command="y", env={"LD_PRELOAD": "z", "LEVEL": "1"})})
    assert summarize_project(with_variable, Config()) == ["x runs y  with LD_PRELOAD"]
    servers = "".join(f'[servers.s{number}]\ncommand = "x"\n' for number in range(21))
    with pytest.raises(ConfigError, match="more than 20 servers"):
        parse(servers)


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


def test_a_copy_of_an_own_server_has_its_limits() -> None:
    own = ServerConfig(
        builtin="drive", read_only=True, exclude=("delete_*",), tools=("read_*", "delete_*"), folders=("/a",)
    )
    user = Config(servers={"mine": own, "far": ServerConfig(url="https://x.example/mcp", exclude=("drop",))})
    project = parse(
        '[servers.d]\nbuiltin = "drive"\nfolders = ["/"]\n[servers.f]\nurl = "https://x.example/other"\n[servers.n]\ncommand = "n"\n',
        user=user,
    )
    servers = merge(user, project)[0].servers
    assert (servers["d"].read_only, servers["d"].folders) == (True, ("/a",))
    assert [servers["d"].exposes(tool) for tool in ("read_file", "delete_file", "write_file")] == [True, False, False]
    assert [servers["f"].exposes(tool) for tool in ("drop", "list")] == [False, True]
    assert servers["n"].exposes("drop")


def test_a_projects_agent_uses_only_models_of_the_user() -> None:
    user = Config(model=ModelConfig(name="main", entries={"small": ModelEntry(name="m")}))
    models = {"a": "small", "b": "main", "c": "dear", "d": "huge@small", "e": None}
    project = Project(agents={name: AgentConfig(model=model) for name, model in models.items()})
    merged, notices = merge(user, project)
    assert [agent.model for agent in merged.agents.values()] == ["small", "main", None, None, None]
    assert notices == (
        "the project's agent 'c' uses your default model: your config has no model 'dear'",
        "the project's agent 'd' uses your default model: your config has no model 'huge@small'",
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
    store.trust(first, "old", {})
    store.trust(second, "other", {"/run.sh": "1"})
    store.trust(first, "new", {})
    assert [(file.path, file.sha256, file.date) for file in store.list_files()] == [
        (str(second), "other", "2026-12-24"),
        (str(first), "new", "2026-12-24"),
    ]
    assert [store.is_trusted(first, sha256, {}) for sha256 in ("old", "new")] == [False, True]
    assert store.forget(first) is True
    assert store.list_files() == (
        TrustedFile(path=str(second), sha256="other", since=DECEMBER_24, programs={"/run.sh": "1"}),
    )
    assert store.forget(first) is False
    assert store.is_trusted(second, "other", {"/run.sh": "1"})
    assert not store.is_trusted(second, "other", {"/run.sh": "2"})


def test_trust_that_an_earlier_version_stored_is_read(tmp_path: Path) -> None:
    path = tmp_path / "trusted.json"
    path.write_text('{"files": [{"path": "/p/.mcpchat.toml", "sha256": "abc", "since": 1.0}]}')
    assert ProjectTrustStore(path).is_trusted(Path("/p/.mcpchat.toml"), "abc", {})


PROGRAMS = (
    "run.sh",
    "tools/run",
    "main.py",
    "pkg/mod.py",
    "pkg/__init__.py",
    "hook.js",
    "server.js",
    "sub/x.py",
    "sub/package.json",
    "Main.class",
    "build/com/acme/Main.class",
    "Gemfile",
    "lib/a.jar",
    "rb/helper.rb",
    "lib/Data/Mod.pm",
    "build.gradle",
    "Taskfile.dist.yml",
    "compose.override.yml",
    "app.csproj",
    "sitecustomize.py",
)


SCRIPTS = (
    "server",
    "launch",
    "build.mk",
    "stack.yml",
    "sub/go",
    "build/com/acme/inner",
)  # that only their use shows to be scripts


@pytest.mark.parametrize(
    ("server", "files"),
    [
        ({"command": "./run.sh"}, ["run.sh"]),
        ({"command": "tools/run"}, ["tools/run"]),
        ({"command": "cat"}, []),
        ({"command": "python", "args": ["main.py", "--db", "./data.db", "--settings=settings.json", "--model", "big.gguf"]}, ["main.py"]),
        ({"command": "python", "args": ["-um", "pkg.mod"]}, ["pkg/__init__.py", "pkg/mod.py"]),
        ({"command": "python", "args": ["-mpkg"]}, ["pkg/__init__.py"]),
        ({"command": "python", "args": ["-c", "import main; main.go()"]}, ["main.py"]),
        ({"command": "node", "args": ["--require=./hook.js", "-r./hook.js", "server"]}, ["hook.js", "server", "server.js"]),
        ({"command": "npm", "args": ["--prefix", "sub", "start"]}, ["sub/package.json"]),
        ({"command": "sh", "args": ["-c", "tools/run --x && npm start"]}, ["tools/run"]),
        ({"command": "bash", "args": ["-lc", 'python3 "main.py"']}, ["main.py"]),
        ({"command": "env", "args": ["-C", "sub", "-S", "python x.py"], "cwd": "sub"}, ["sub/package.json", "sub/x.py"]),
        ({"command": "run", "env": {"PATH": "tools:/usr/bin"}}, ["run.sh", "tools/run"]),
        ({"command": "python", "env": {"PYTHONSTARTUP": "./main.py", "OTHER": "./hook.js"}}, ["main.py"]),
        ({"command": "FOLDER/run.sh"}, ["run.sh"]),
        ({"command": "FOLDER/sub/../run.sh", "args": ["file://FOLDER/hook.js"]}, ["hook.js", "run.sh"]),
        ({"command": "/bin/sh", "args": ["missing.sh", "a\0b", "x" * 9000, 7, "~nosuchuser/x", "../../../proc/self/pagemap", "'"]}, []),
        ({"command": "./run.sh", "cwd": "~nosuchuser"}, ["run.sh"]),
        ({"command": "python3", "args": ["-X", "dev", "server", "data.db"]}, ["server", "server.js"]),
        ({"command": "bash", "args": ["./launch"]}, ["launch"]),
        ({"command": "sh", "args": ["-c", "cd sub && ./go && perl ../server data.db"]}, ["server", "server.js", "sub/go", "sub/package.json"]),
        ({"command": "sh", "args": ["-c", "$PWD/launch"]}, ["launch"]),
        ({"command": "sh", "args": ["-c", "exec ${FOO}"], "env": {"FOO": "./run.sh"}}, ["run.sh"]),
        ({"command": "make", "args": ["-f", "build.mk"]}, ["build.mk"]),
        ({"command": "docker", "args": ["compose", "--file=stack.yml", "up"]}, ["compose.override.yml", "stack.yml"]),
        ({"command": "uv", "args": ["--directory", "sub", "run", "x.py"]}, ["run.sh", "sub/package.json", "sub/x.py"]),
        ({"command": "python", "args": ["-m", "mod"], "env": {"PYTHONPATH": "pkg"}}, ["pkg/mod.py", "sitecustomize.py"]),
        ({"command": "java", "args": ["-cp", ".", "Main"]}, ["Main.class"]),
        ({"command": "/usr/bin/java", "args": ["-cp", "lib/x:build", "com.acme.Main"]}, ["build/com/acme/Main.class"]),
        ({"command": "sh", "args": ["-c", "exec java -classpath=FOLDER Main"]}, ["Main.class"]),
        ({"command": "java21", "args": ["-cp", "build", "com/acme/Main"]}, ["build/com/acme/Main.class"]),
        ({"command": "java", "args": ["-cp", "build:lib/*", "Ümain"]}, ["lib/a.jar"]),
        ({"command": "cat", "args": ["Main"]}, []),
        ({"command": "bundle", "args": ["exec", "server"]}, ["Gemfile", "server", "server.js"]),
        ({"command": "Rscript", "args": ["launch", "data.db"]}, ["launch"]),
        ({"command": "ruby", "args": ["-Irb", "-rhelper", "-e", "go"]}, ["rb/helper.rb"]),
        ({"command": "perl", "args": ["-I", "lib", "-MData::Mod", "-e", "go"]}, ["lib/Data/Mod.pm"]),
        ({"command": "sh", "args": ["-c", "exec ./r?n.[s]h data.*"]}, ["run.sh"]),
        ({"command": "sh", "args": ["-c", "sh <launch"]}, ["launch"]),
        ({"command": "sh", "args": ["-c", ". ./launch"]}, ["launch"]),
        ({"command": "python", "args": ["-c", "exec(open('launch').read())"]}, ["launch"]),
        ({"command": "python3", "args": ["-W", "launch", "big.gguf"]}, ["big.gguf", "launch"]),  # launch is a decoy
        ({"command": "bash", "args": ["-o", "launch", "server"]}, ["launch", "server", "server.js"]),
        ({"command": "sh", "args": ["-c", "cat big.gguf | sh"]}, ["big.gguf"]),
        ({"command": "sh", "args": ["-c", "cat launch | cat"]}, ["launch"]),
        ({"command": "make", "args": ["-fbuild.mk"]}, ["build.mk"]),
        ({"command": "gawk", "args": ["-f", "launch", "data.db"]}, ["launch"]),
        ({"command": "sh", "args": ["-c", "cd build && cd com/acme && sh inner"]}, ["build/com/acme/inner"]),
        ({"command": "python", "args": ["-m", "pkg.mod"]}, ["pkg/__init__.py", "pkg/mod.py"]),
        ({"command": "python", "args": ["-c", "from main import go"]}, ["main.py"]),
        ({"command": "uv", "args": ["run", "launch"]}, ["launch", "run.sh"]),
        ({"command": "env", "args": ["BASH_ENV=launch", "LD_PRELOAD=./server", "x"]}, ["launch", "server", "server.js"]),
        ({"command": "luajit", "args": ["launch"]}, ["launch"]),
        ({"command": "./gradlew", "args": ["run"]}, ["build.gradle", "run.sh"]),
        ({"command": "task", "args": ["go"]}, ["Taskfile.dist.yml"]),
        ({"command": "docker", "args": ["compose", "up"]}, ["compose.override.yml"]),
        ({"command": "dotnet", "args": ["run"]}, ["app.csproj", "run.sh"]),
        ({"command": "python", "args": ["x"], "env": {"PYTHONPATH": "."}}, ["sitecustomize.py"]),
        ({"command": "cat", "args": ["--include", "data.db", "*.db"]}, []),
        ({"command": 7}, []),
        ({"url": "https://x.example"}, []),
    ],
)  # fmt: skip
def test_named_programs_belong_to_the_trusted_content(
    tmp_path: Path, server: dict[str, object], files: list[str]
) -> None:
    for name in (*PROGRAMS, *SCRIPTS, "data.db", "settings.json", "big.gguf"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!" if name in {"tools/run", "sub/go"} else name)
    hashes = hash_programs({"s": eval(repr(server).replace("FOLDER", str(tmp_path)))}, tmp_path)
    assert [os.path.relpath(path, tmp_path) for path in hashes] == sorted(files)


def test_a_link_to_the_folder_makes_no_difference(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/run.sh").write_text("x")
    (tmp_path / "link").symlink_to("real")
    for command in ("./run.sh", f"{tmp_path}/link/run.sh", f"{tmp_path}/real/run.sh"):
        assert [*hash_programs({"s": {"command": command}}, tmp_path / "link")] == [str(tmp_path / "real/run.sh")]


def test_programs_are_read_only_for_a_file_that_is_trusted(
    tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".mcpchat.toml").write_text('[servers.box]\ncommand = "./run.sh"\n')
    os.mkfifo(tmp_path / "run.sh")  # reading it would never end
    monkeypatch.chdir(tmp_path)
    assert merge_project_file(Config(servers={}), paths.config, paths)[0] == Config(servers={})


def test_a_changed_program_ends_the_trust(tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "run.sh"
    script.write_text("one")
    (tmp_path / ".mcpchat.toml").write_text('[servers.box]\ncommand = "./run.sh"\n')
    monkeypatch.chdir(tmp_path)
    user = Config(servers={})

    def use(*, yes: bool = False) -> tuple[bool, tuple[str, ...]]:
        merged, notices = merge_project_file(user, paths.config, paths, confirm_trust=lambda project, config: yes)
        return "box" in merged.servers, notices

    assert use(yes=True) == (True, ())
    assert use() == (True, ())
    server, own = ProjectServer(command="./run.sh"), ServerConfig(command="./run.sh")
    verify_programs(server, paths)
    script.write_text("two")
    verify_programs(own, paths)
    with pytest.raises(ServerError, match=r"run\.sh changed since you trusted the project file"):
        verify_programs(server, paths)  # before each start, also within a chat
    notice = f"{tmp_path}/.mcpchat.toml is not used, because {script} changed; mcpchat trust shows its content"
    assert use() == (False, (notice,))
    script.unlink()
    assert use() == (False, (notice,))
    script.write_text("one")
    assert use() == (True, ())


def test_a_project_file_is_used_once_the_user_trusts_it(
    tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".mcpchat.toml"
    path.write_text('[servers.box]\ncommand = "run"\n')
    monkeypatch.chdir(tmp_path)
    user, merged = Config(servers={}), Config(servers={"box": ProjectServer(command="run", cwd=str(tmp_path))})
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


def test_another_clients_file_is_a_project_file_too(
    tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = """"team one": {"command": "./run", "env": {"A": "${A}"}},
        "asks": {"command": "x", "env": {"K": "${input:key}"}},
        "takes": {"command": "x", "env": {"K": "${OPENAI_API_KEY}"}},
        "mine": {"command": "x"}"""
    path = tmp_path / ".mcp.json"
    path.write_text(f'{{"mcpServers": {{{entries}}}}}')
    (tmp_path / "run").write_text("#!/bin/sh")
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    user = Config(servers={"mine": ServerConfig(command="m")})
    config, (notice,) = merge_project_file(user, paths.config, paths)
    assert (config, "mcpchat trust ignore leaves it out silently" in notice) == (user, True)
    config, notices = merge_project_file(user, paths.config, paths, confirm_trust=lambda project, config: True)
    assert notices == ("the project's server 'mine' is left out: your config has the same name",)
    server = ProjectServer(command=str(tmp_path / "run"), env={"A": "env:A"}, cwd=str(tmp_path))
    assert config.servers == {"mine": ServerConfig(command="m"), "team-one": server}
    project = find_project(exclude=paths.config)
    assert project is not None
    assert list(project.programs) == [str(tmp_path / "run")]
    description = "\n".join(describe_project(project.parse(user), user))
    assert f"asks  not used: mcpchat import {path} asks for its secret" in description
    assert "takes  not used: OPENAI_API_KEY is never passed to a project's server" in description
    (tmp_path / "run").write_text("#!/bin/sh\nexit")
    assert "changed" in merge_project_file(user, paths.config, paths)[1][0]


def test_a_project_file_of_our_own_comes_first(tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "inner"
    (inner / ".vscode").mkdir(parents=True)
    monkeypatch.chdir(inner)
    (inner / ".mcp.json").write_text('{"mcpServers": {}}')  # has no servers
    assert find_project(exclude=paths.config) is None
    (inner / ".vscode" / "mcp.json").write_text('{"servers": {"a": {"command": "${workspaceFolder}/a"}}}')
    project = find_project(exclude=paths.config)
    assert project is not None
    assert project.parse(Config()).servers["a"].command == f"{inner}/a"
    (tmp_path / ".mcpchat.toml").write_text("")
    project = find_project(exclude=paths.config)
    assert project is not None
    assert project.path == tmp_path / ".mcpchat.toml"


def test_both_files_of_other_clients_are_trusted_together(
    tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".vscode").mkdir()
    first, second = tmp_path / ".mcp.json", tmp_path / ".vscode" / "mcp.json"
    first.write_text('{"mcpServers": {"a": {"command": "one"}}}')
    project = find_project(exclude=paths.config)
    assert project is not None
    project_file.trust(project, paths)
    second.write_text('{"servers": {"a": {"command": "two"}, "b": {"command": "three"}}}')
    project = find_project(exclude=paths.config)
    assert project is not None
    assert project.label == f"{first} and {second}"
    assert not project_file.is_trusted(project, paths)
    assert {name: server.command for name, server in project.parse(Config()).servers.items()} == {
        "a": "one", "a-2": "two", "b": "three",
    }  # fmt: skip
    project_file.trust(project, paths)
    assert {"a", "a-2", "b"} <= set(merge_project_file(Config(), paths.config, paths)[0].servers)
    second.write_text("{")
    config, (notice,) = merge_project_file(Config(), paths.config, paths)
    assert (config, "not trusted" in notice) == (Config(), True)


@pytest.mark.parametrize("text", ['{"mcpServers": {', '{"mcpServers": {%s}}' % ",".join(f'"s{n}": {{"command": "x"}}' for n in range(21))])  # fmt: skip # noqa: UP031
def test_another_clients_file_with_a_fault_is_left_out(
    tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".mcp.json").write_text(text)
    config, (notice,) = merge_project_file(Config(), paths.config, paths, confirm_trust=lambda project, config: True)
    assert (config, notice.endswith("the project file is left out")) == (Config(), True)


def test_an_ignored_file_is_left_out_without_a_word(
    tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ".mcp.json"
    path.write_text('{"mcpServers": {"a": {"command": "x"}}}')
    store = project_file.trust_store(paths)
    store.ignore(path)
    assert merge_project_file(Config(), paths.config, paths, confirm_trust=lambda project, config: True) == (
        Config(),
        (),
    )
    project = find_project(exclude=paths.config)
    assert project is not None
    project_file.trust(project, paths)
    assert (store.is_ignored(path), project_file.is_trusted(project, paths)) == (False, True)
    store.ignore(path)
    assert (store.forget(path), store.forget(path), store.is_ignored(path)) == (True, False, False)
