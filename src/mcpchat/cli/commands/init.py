"""mcpchat init: the first steps, with single keys: a model, the servers of other clients, a chat."""

import getpass
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from mcpchat.cli.chat_app import start_chat
from mcpchat.cli.options import DisplayOptions, config_file, with_options
from mcpchat.cli.output import is_terminal
from mcpchat.cli.runtime import build_context, current_run, run_for_value
from mcpchat.cli.server_import import write_servers
from mcpchat.config import edit
from mcpchat.config.clients.files import CLIENTS, find_client_files
from mcpchat.config.clients.plan import PlannedServer, plan_import
from mcpchat.config.run import ConfigChoice, RunContext, RunOptions, default_paths, working_directory
from mcpchat.config.schema import Config, ModelConfig
from mcpchat.config.stored_secrets import StoredSecrets
from mcpchat.config.validation import address_problem
from mcpchat.errors import McpChatError, UsageError
from mcpchat.models.local_discovery import discover
from mcpchat.models.selection import DEMO, ModelSelector
from mcpchat.ui.prompts.keys import TerminalKeyInput
from mcpchat.util.sanitize import one_line
from mcpchat.util.text import did_you_mean
from mcpchat.version import __version__

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_MAX_MODELS = 6  # on offer
_OPENAI_URL = "https://api.openai.com/v1"
_KEY_VARIABLE = "MCPCHAT_INIT_KEY"  # of this process alone, until the key is in the keyring


@dataclass(frozen=True)
class _ModelChoice:
    """A model on offer: the ``key`` to press, what it is, and its settings in the config."""

    key: str
    text: str
    settings: dict[str, str]


@app.command()
@with_options(config=config_file)
def init(config: Path | None) -> int:
    """Set up a model, copy the servers of other clients, and chat: a few questions, each answered with a key.

    Looks for Ollama, LM Studio, llama.cpp and vLLM on this machine. Writes the config file; nothing is written before
    you press a key.
    """
    if not is_terminal(sys.stdin, sys.stdout, sys.stderr):
        raise UsageError("init asks questions, and needs a terminal", hint="mcpchat config init writes a config file")
    if _Setup(config).run():
        return start_chat(RunOptions(), DisplayOptions(), ConfigChoice(config))
    return 0


class _Setup:
    """The questions. Each method of a step may raise McpChatError, which is shown; then the next step comes."""

    def __init__(self, config: Path | None) -> None:
        self._config = config
        self._path = config or default_paths(os.environ).config
        self._console = Console(stderr=True, highlight=False)
        self._keys = TerminalKeyInput(sys.stderr)

    def run(self) -> bool:
        """Ask everything. Returns whether a chat is wanted."""
        self._print(f"mcpchat {__version__}", "bold")
        self._choose_model()
        self._import_servers()
        self._print("\n3. Chat", "bold")
        return self._ask("  [c]hat now  [q]uit ", "cq") == "c"

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style))

    def _ask(self, question: str, keys: str) -> str:
        """The key that the user pressed; Enter is the first one. Ctrl-C ends the setup."""
        key = run_for_value(self._keys.read_key(question, keys, allow_enter=True))
        key = keys[0] if key == "enter" else key
        if key == "cancel":
            raise KeyboardInterrupt
        self._print(f"{question.rstrip()} {'' if key == 'escape' else key}", "dim")
        return key

    # 1. A model.

    def _choose_model(self) -> None:
        self._print("\n1. A model", "bold")
        while True:
            current = run_for_value(self._current_model())
            choices = run_for_value(self._list_models())
            for choice in choices:
                self._print(f"  {choice.key}  {choice.text}")
            self._print("  k  an API key: OpenAI, or a compatible service")
            self._print("  d  the demo: no language model, but it calls tools")
            keep = f"\n  Enter keeps {current}" if current else ""
            default = "n" if current else choices[0].key if choices else "k"
            keys = "".join(dict.fromkeys((default, *(choice.key for choice in choices), "k", "d")))
            labels = f"  which? [{'/'.join(key for key in keys if key != 'n')}]{keep} "
            key = self._ask(labels, keys)
            if key in ("n", "escape"):
                return
            try:
                settings = self._settings_for(key, choices)
                if settings is not None:
                    self._write_model(settings)
                    return
            except McpChatError as error:
                self._show_error(error)

    async def _current_model(self) -> str:
        """The model that the config and the environment give now; empty if there is none."""
        try:
            async with aclosing(ModelSelector(self._context(), lazy=True)) as selector:
                selected = await selector.select(None)
        except McpChatError:
            return ""
        return one_line(selected.name, 80)

    async def _list_models(self) -> list[_ModelChoice]:
        """The models of the servers on this machine, and OpenAI if its key is in the environment."""
        found = [
            (f"{one_line(model, 60)}, on this machine ({server.name})", {"name": model, "base_url": server.base_url})
            for server in await discover()
            for model in server.models
        ][:_MAX_MODELS]
        choices = [_ModelChoice(str(number), text, settings) for number, (text, settings) in enumerate(found, start=1)]
        if os.environ.get("OPENAI_API_KEY"):
            settings = {"base_url": os.environ["OPENAI_BASE_URL"]} if os.environ.get("OPENAI_BASE_URL") else {}
            place = settings.get("base_url", "OpenAI")
            choices.append(_ModelChoice("o", f"{place}, with your OPENAI_API_KEY", settings))
        return choices

    def _settings_for(self, key: str, choices: Sequence[_ModelChoice]) -> dict[str, str] | None:
        """The settings of the choice; None to ask again. Raises McpChatError if its server does not accept them."""
        if key == "d":
            return {"name": DEMO}
        if key == "k":
            return self._ask_for_key()
        settings = next(choice.settings for choice in choices if choice.key == key)
        return settings if "name" in settings else self._choose_name(settings)

    def _ask_for_key(self) -> dict[str, str] | None:
        url = self._read_line("  address: ", _OPENAI_URL, address_problem)
        if not isinstance(url, str):
            return None
        secret = getpass.getpass("  key: ", sys.stderr).strip()
        if not secret:
            return None
        current_run().secrets.add(secret)
        settings = self._choose_name({} if url == _OPENAI_URL else {"base_url": url}, secret)
        if settings is None:
            return None
        store = StoredSecrets(default_paths(os.environ).state)
        name = run_for_value(store.store_new("openai" if url == _OPENAI_URL else "model", secret))
        return {**settings, "api_key": f"keyring:{name}"}

    def _choose_name(self, settings: dict[str, str], secret: str = "") -> dict[str, str] | None:
        """The settings with a model's name; its server lists the models, which shows that it accepts the key."""
        names, usual = run_for_value(self._list_names(settings, secret))
        self._print(f"  the key is accepted; {len(names)} models, such as {', '.join(map(one_line, names[:5]))}", "dim")
        name = (self._read_line("  model: ", usual) or "").strip()
        if name and names and name not in names:  # some servers have models that they do not list
            self._print(f"  the server does not list {one_line(name, 60)}{did_you_mean(name, names)}", "yellow")
        return {**settings, "name": name} if name else None

    async def _list_names(self, settings: dict[str, str], secret: str) -> tuple[list[str], str]:
        """The models at these settings, and the usual one. ``secret`` is the key, if it is not in the environment.

        Nothing else of the config's model counts: its headers may be secrets of another service. Raises McpChatError.
        """
        context = self._context()
        model = ModelConfig(base_url=settings.get("base_url"), api_key=f"env:{_KEY_VARIABLE}" if secret else None)
        config = msgspec.structs.replace(context.config, model=model)
        context = replace(context, config=config, environ={**context.environ, _KEY_VARIABLE: secret})
        async with aclosing(ModelSelector(context)) as selector:
            names = list(await selector.list_server_models())
            try:
                usual = (await selector.select(None)).name
            except McpChatError:
                usual = names[0] if names else ""
        return names, usual

    def _read_line(self, prompt: str, default: str, find_problem: Callable[[str], str] | None = None) -> str | None:
        """The line that the user enters; None for Escape. Ctrl-C ends the setup."""
        line = run_for_value(self._keys.read_line(prompt, default, find_problem))
        if isinstance(line, str):
            return line
        if line.action == "cancel":
            raise KeyboardInterrupt
        return None

    def _write_model(self, settings: dict[str, str]) -> None:
        # What belongs to another service goes too.
        others = ("api", "headers", "allow_http", "extra_body", "context_window", "reasoning_effort", "price")
        values = {key: settings.get(key) for key in ("name", "base_url", "api_key", *others)}
        edit.update(self._path, lambda text: edit.set_values(text, "model", values))
        self._print(f"  {one_line(str(self._path), 200)}: model {one_line(settings['name'], 60)}", "dim")

    # 2. Servers.

    def _import_servers(self) -> None:
        self._print("\n2. Servers of other clients", "bold")
        if not self._find_servers():
            self._print("  none that are new; mcpchat servers search finds others", "dim")
        while (found := self._find_servers()) and self._copy_some(found):
            pass

    def _copy_some(self, found: Sequence[tuple[str, list[PlannedServer]]]) -> bool:
        """Ask which of the servers to copy. Returns whether to ask again."""
        for number, (title, servers) in enumerate(found, start=1):
            names = ", ".join(one_line(server.name, 40) for server in servers)
            self._print(f"  {number}  {title}: {names}")
        numbers = "".join(str(number) for number in range(1, len(found) + 1))
        key = self._ask(f"  copy [n]one  [a]ll  or one of them [{'/'.join(numbers)}] ", f"na{numbers}")
        if key in ("n", "escape"):
            return False
        selected = found if key == "a" else [found[int(key) - 1]]
        chosen = {server.name: server for _, servers in reversed(selected) for server in servers}
        servers = list(chosen.values())
        secrets = [f"{server.name}.{name}" for server in servers for name in server.moved_secrets]
        if secrets:
            answer = self._ask(f"  move {', '.join(secrets)} into the keyring? [y]es  [n]o ", "yn")
            servers = servers if answer == "y" else [server for server in servers if not server.moved_secrets]
        try:
            write_servers(self._config, servers, yes=True)
        except McpChatError as error:
            self._show_error(error)
            self._print("  nothing was copied")
            return True
        return key != "a" and bool(servers)

    def _find_servers(self) -> list[tuple[str, list[PlannedServer]]]:
        """The clients that have new servers, at most nine, each with these."""
        config, folder = self._context().config, working_directory()
        found = []
        for client in CLIENTS:
            files = plan_import(find_client_files((client,), folder, os.environ), config, os.environ)
            if new := [server for file in files for server in file.servers if server.state == "new"]:
                found.append((client.title, new))
        return found[:9]

    def _show_error(self, error: McpChatError) -> None:
        self._print(f"  {current_run().secrets.redact(error.message)}", "red")
        if error.hint:
            self._print(f"  {current_run().secrets.redact(error.hint)}", "dim")

    def _context(self) -> RunContext:
        """The context with the config as it is now; with the defaults if the file does not exist yet."""
        if self._path.exists():
            return build_context(self._config, quiet=True)
        paths = replace(default_paths(os.environ), config=self._path)
        return RunContext(config=Config(), environ=dict(os.environ), paths=paths, secrets=current_run().secrets)
