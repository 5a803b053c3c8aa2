"""Completion in shells: what a Tab offers, from the stored table of commands and from what is kept on disk.

It imports neither a parser nor an SDK, starts nothing and asks nobody. Names that strangers gave (tools, titles) are
offered only where no shell could take them for more than a word.
"""

import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mcpchat.cli.command_table import COMMANDS

SHELLS = ("bash", "zsh", "fish", "powershell")
_WORD = re.compile(r"[\w.:/@+,=~%-]+")
_MOST = 200  # that are offered
_LARGEST = 4_000_000  # bytes of a file that is looked into
_DESCRIPTION = 70  # characters
Offer = tuple[str, str]  # the word, and what it is

_FORMATS = {
    "ask": ("text", "markdown", "json", "jsonl"),
    "tools": ("table", "json", "openai"),
    "call": ("text", "json", "raw"),
    "read": ("text", "json", "raw"),
    "threads show": ("text", "markdown", "json", "html"),
    "threads export": ("text", "markdown", "json", "html"),
}
STEPS = ("run", "submit", "wait", "fetch")  # of a batch that the provider runs
_BUILTIN = ("calculator", "drive", "gmail", "sheets")
SCHEMAS = ("events", "input", "answer", "batch", "result", "config")
# What stands behind an option, and behind an argument of a command, by its name.
_OPTIONS = {
    "model": "models", "agent": "agents", "thread": "threads", "template": "templates", "allow": "tools",
    "deny": "tools", "config": "files", "file": "files", "attach": "files", "schema": "files", "output": "formats",
    "form": "formats",
    "builtin": "builtin", "tool": "tools", "server": "servers", "input_format": "input", "provider_batch": "steps",
    "instructions_file": "files", "place": "files",
}  # fmt: skip
_ARGUMENTS = {
    ("call", "tool"): "tools", ("call", "pairs"): "keys", ("read", "resource"): "resources",
    ("prompt", "name"): "prompts", ("prompt", "pairs"): "prompt_keys", ("tools", "server"): "servers",
    ("servers show", "name"): "servers", ("servers logs", "name"): "servers", ("servers remove", "name"): "servers",
    ("servers enable", "name"): "servers", ("servers disable", "name"): "servers",
    ("trust review", "server"): "servers", ("auth login", "name"): "servers",
    ("auth logout", "name"): "servers", ("threads show", "name"): "threads",
    ("threads fork", "name"): "threads", ("threads rename", "name"): "threads", ("threads export", "names"): "threads",
    ("threads delete", "names"): "threads", ("threads import", "files"): "files", ("agents show", "name"): "agents",
    ("models", "table"): "models", ("approvals revoke", "tools"): "tools", ("batch", "source"): "files",
    ("schema", "name"): "schemas", ("completion", "shell"): "shells", ("trust", "path"): "files",
}  # fmt: skip


def complete(words: Sequence[str]) -> list[Offer]:
    """What can stand in the place of the last word, which may be empty; the others are before it."""
    *before, current = words or [""]
    place = _Place(before)
    if place.expects is not None:
        return _matching(place.offers(_OPTIONS.get(place.expects[2], "")), current)
    option, equals, value = current.partition("=")
    if current.startswith("--") and equals:
        known = place.options.get(option)
        offers = place.offers(_OPTIONS.get(known[2], "")) if known else []
        return [(f"{option}={word}", told) for word, told in _matching(offers, value)]
    if current.startswith("-") and not place.bare:
        return _matching(
            [(name, known[0]) for name, known in sorted(place.options.items()) if place.free(name)], current
        )
    offers = list(place.commands.items()) if not place.given else []
    return _matching([*offers, *place.offers(place.argument())], current)


def _matching(offers: Iterable[Offer], current: str) -> list[Offer]:
    found = {word: told for word, told in offers if word.startswith(current) and _WORD.fullmatch(word)}
    return list(found.items())[:_MOST]


class _Place:
    """Where the words before lead: the command, what it has been given, and what its last option still wants."""

    def __init__(self, before: Sequence[str]) -> None:
        self.path = ""
        self.given: list[str] = []
        self.used: set[str] = set()
        self.bare = False
        self.expects: tuple[str, bool, str, bool] | None = None
        self.values: dict[str, str] = {}
        for word in before:
            self._take(word)

    def _take(self, word: str) -> None:
        if self.expects is not None:
            self.values[self.expects[2]] = word
            self.expects = None
        elif self.bare or not word.startswith("-") or word == "-":
            inner = f"{self.path} {word}".strip()
            if not self.given and not self.bare and inner in COMMANDS:
                self.path = inner
            else:
                self.given.append(word)
        elif word == "--":
            self.bare = True
        else:
            name, equals, value = word.partition("=")
            self.used.add(name)
            known = self.options.get(name)
            if known is not None and known[1]:
                if equals:
                    self.values[known[2]] = value
                else:
                    self.expects = known

    @property
    def options(self) -> dict[str, tuple[str, bool, str, bool]]:
        """By name: what it does, whether it takes a value, its parameter, whether it may come again."""
        return COMMANDS[self.path][1]

    @property
    def commands(self) -> dict[str, str]:
        return COMMANDS[self.path][2]

    def free(self, name: str) -> bool:
        """Whether the option, by none of its spellings, was used up."""
        known = self.options[name]
        return known[3] or not any(self.options.get(used, ("", False, ""))[2] == known[2] for used in self.used)

    def argument(self) -> str:
        """What the next argument is one of."""
        arguments = COMMANDS[self.path][0]
        if not arguments:
            return ""
        name, many = arguments[min(len(self.given), len(arguments) - 1)]
        return _ARGUMENTS.get((self.path, name), "") if many or len(self.given) < len(arguments) else ""

    def offers(self, kind: str) -> list[Offer]:
        static = {
            "formats": _FORMATS.get(self.path, ("text", "json")),
            "builtin": _BUILTIN,
            "schemas": SCHEMAS,
            "shells": SHELLS,
            "input": ("text", "jsonl"),
            "steps": STEPS,
        }
        if kind in static:
            return [(word, "") for word in static[kind]]
        source = _SOURCES.get(kind)
        return source(_Kept(self.values.get("config")), self.given) if source is not None else []


class _Kept:
    """What is on disk: the config, the lists of servers, the threads. What cannot be read is not there."""

    def __init__(self, config: str | None) -> None:
        import platformdirs

        folders = platformdirs.PlatformDirs("mcpchat", appauthor=False)
        named = config or os.environ.get("MCPCHAT_CONFIG")
        self.path = Path(named).expanduser() if named else folders.user_config_path / "config.toml"
        self._cache = folders.user_cache_path / "servers"
        self._threads = folders.user_data_path / "threads.db"

    def config(self) -> dict[str, Any]:
        import tomllib

        try:
            return tomllib.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def table(self, name: str) -> dict[str, dict[str, Any]]:
        """The tables within a table of the config."""
        found = self.config().get(name)
        return {key: one for key, one in found.items() if isinstance(one, dict)} if isinstance(found, dict) else {}

    def servers(self) -> dict[str, dict[str, Any]]:
        return self.table("servers") or {"calculator": {"builtin": "calculator"}}

    def catalogs(self) -> dict[str, dict[str, Any]]:
        """The latest list of each configured server, by its name."""
        wanted, found = self.servers(), dict[str, dict[str, Any]]()
        try:
            files = sorted(self._cache.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
        except OSError:
            return {}
        for file in files[:100]:
            catalog = _json(file).get("catalog")
            if not isinstance(catalog, dict):
                continue
            listed = [
                one for kind in ("tools", "resources", "prompts", "templates") for one in _dicts(catalog.get(kind))
            ]
            server = str(listed[0].get("server", "")) if listed else ""
            if server in wanted:
                found.setdefault(server, catalog)
        return found

    def threads(self) -> list[Offer]:
        import sqlite3
        from contextlib import closing
        from urllib.parse import quote

        try:
            address = f"file:{quote(str(self._threads))}?mode=ro"
            with closing(sqlite3.connect(address, uri=True, timeout=0.05)) as database:
                rows = database.execute("SELECT id, title FROM threads ORDER BY updated DESC LIMIT 50").fetchall()
        except sqlite3.Error:
            return []
        return [(str(name)[:8], str(title)) for name, title in rows]


def _json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _LARGEST:
            return {}
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _listed(kind: str, name: str, join: str) -> Callable[[_Kept, Sequence[str]], list[Offer]]:
    """What the servers list of a kind, each by its server's name and its own."""

    def source(kept: _Kept, given: Sequence[str]) -> list[Offer]:
        return [
            (f"{server}{join}{one.get(name, '')}", str(one.get("title") or one.get("description") or ""))
            for server, catalog in kept.catalogs().items()
            for one in _dicts(catalog.get(kind))
        ]  # behind their servers' names: none can be an option

    return source


def _keys(kept: _Kept, given: Sequence[str]) -> list[Offer]:
    """The arguments of the tool that was named, as far as they are not given."""
    server, _, name = given[0].partition(".") if given else ("", "", "")
    for one in _dicts(kept.catalogs().get(server, {}).get("tools")):
        schema = one.get("schema")
        properties = schema.get("properties") if one.get("name") == name and isinstance(schema, dict) else None
        if isinstance(properties, dict):
            told = {
                key: said.get("description", "") if isinstance(said, dict) else "" for key, said in properties.items()
            }
            return _not_yet([(f"{key}=", str(text)) for key, text in told.items()], given)
    return []


def _prompt_keys(kept: _Kept, given: Sequence[str]) -> list[Offer]:
    server, _, name = given[0].partition(":") if given else ("", "", "")
    for one in _dicts(kept.catalogs().get(server, {}).get("prompts")):
        if one.get("name") == name:
            arguments = _dicts(one.get("arguments"))
            return _not_yet([(f"{a.get('name', '')}=", str(a.get("description", ""))) for a in arguments], given)
    return []


def _not_yet(offers: Sequence[Offer], given: Sequence[str]) -> list[Offer]:
    wanted = [offer for offer in offers if offer[0][0].isalnum()]  # none that would be taken for an option
    return [(word, told) for word, told in wanted if not any(text.startswith(word) for text in given[1:])]


def _templates(kept: _Kept, given: Sequence[str]) -> list[Offer]:
    folder = kept.path.parent / "templates"
    files = [file for file in folder.rglob("*") if file.suffix in {".md", ".txt"}] if folder.is_dir() else []
    return sorted((file.relative_to(folder).with_suffix("").as_posix(), "") for file in files)


_SOURCES: dict[str, Callable[[_Kept, Sequence[str]], list[Offer]]] = {
    "servers": lambda kept, given: [
        (name, str(one.get("url") or one.get("command") or one.get("builtin") or ""))
        for name, one in kept.servers().items()
    ],
    "agents": lambda kept, given: [(n, str(one.get("description", ""))) for n, one in kept.table("agents").items()],
    "models": lambda kept, given: [
        *(
            (name, str(one.get("name", "")))
            for name, one in kept.table("model").items()
            if name not in {"headers", "price"}
        ),
        ("demo", "no language model: it shows the tools"),
    ],
    "tools": _listed("tools", "name", "."),
    "resources": _listed("resources", "uri", ":"),
    "prompts": _listed("prompts", "name", ":"),
    "keys": _keys,
    "prompt_keys": _prompt_keys,
    "threads": lambda kept, given: kept.threads(),
    "templates": _templates,
}


def answer(arguments: Sequence[str]) -> str:
    """The lines that a shell's script reads: the word, a tab and what it is. FILES asks for the shell's own files.

    ``arguments`` are the words behind ``mcpchat``, of which the last is the one that is completed.
    """
    offers = complete(arguments)
    lines = [f"{word}\t{_one_line(told)}" for word, told in offers]
    *before, current = arguments or [""]
    place = _Place(before)
    kind = _OPTIONS.get(place.expects[2], "") if place.expects else "" if current.startswith("-") else place.argument()
    if kind == "files" or _names_a_file(place, current):
        lines.append("FILES\t")
    return "".join(f"{line}\n" for line in lines)


def _names_a_file(place: _Place, current: str) -> bool:
    return place.path == "call" and bool(place.given) and "=@" in current


def _one_line(text: str) -> str:
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(shown.split())[:_DESCRIPTION]


def main(words: Sequence[str]) -> int:
    """``__complete [WORDS...]``."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # where the shell's encoding lacks what a description has
    sys.stdout.write(answer(list(words)))
    return 0


def script(shell: str) -> str:
    """What a shell reads once, so that Tab asks mcpchat."""
    return _SCRIPTS[shell]


_BASH = r"""# Completion of mcpchat for bash 4 and newer: eval "$(mcpchat completion bash)"
_mcpchat() {
  local words=() current line word breaks=""
  # Words as mcpchat sees them: neither = nor : ends one, which for readline they may do.
  [[ "$COMP_WORDBREAKS" == *=* ]] && breaks+="="
  [[ "$COMP_WORDBREAKS" == *:* ]] && breaks+=":"
  local before="${COMP_LINE:0:COMP_POINT}"
  read -r -a words <<< "$before"
  [[ "$before" == *[[:space:]] ]] && words+=("")
  current="${words[${#words[@]}-1]}"
  COMPREPLY=()
  local stem=""
  [[ -n "$breaks" && "$current" == *["$breaks"]* ]] && stem="${current%"${current##*["$breaks"]}"}"
  while IFS=$'\t' read -r word line; do
    if [[ "$word" == FILES ]]; then
      local file part="${current##*[=@]}"
      [[ "$current" == *=* ]] || part="$current"
      compopt -o filenames 2>/dev/null
      while IFS= read -r file; do COMPREPLY+=("$file"); done < <(compgen -f -- "$part")
    else
      COMPREPLY+=("${word#"$stem"}")
      [[ "$word" == *= ]] && compopt -o nospace 2>/dev/null
    fi
  done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
}
complete -F _mcpchat mcpchat
"""

_ZSH = r"""#compdef mcpchat
# Completion of mcpchat for zsh: eval "$(mcpchat completion zsh)", or save it as _mcpchat in a folder of fpath.
_mcpchat() {
  local line word told files=0
  local -a shown open shown_open given
  given=("${(@Q)words[2,CURRENT]}")
  local -a plain
  while IFS=$'\t' read -r word told; do
    if [[ "$word" == FILES ]]; then
      files=1
    elif [[ "$word" == *= ]]; then
      open+=("$word"); shown_open+=("$word${told:+  -- $told}")
    else
      plain+=("$word"); shown+=("$word${told:+  -- $told}")
    fi
  done < <("${words[1]}" __complete "${given[@]}" 2>/dev/null)
  (( ${#plain} )) && compadd -l -d shown -a plain
  (( ${#open} )) && compadd -S '' -l -d shown_open -a open
  if (( files )); then
    compset -P '*=@'
    _files
  fi
}
if [[ "${funcstack[1]}" == _mcpchat ]]; then
  _mcpchat "$@"
else
  (( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
  compdef _mcpchat mcpchat
fi
"""

_FISH = r"""# Completion of mcpchat for fish: mcpchat completion fish > ~/.config/fish/completions/mcpchat.fish
function __mcpchat_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for line in ($words[1] __complete $words[2..-1] "$current" 2>/dev/null)
        if string match -q -- 'FILES*' $line
            __fish_complete_path (string replace -r -- '^.*=@' '' "$current")
        else
            echo $line
        end
    end
end
complete -c mcpchat -f -a '(__mcpchat_complete)'
"""

_POWERSHELL = r"""# Completion of mcpchat for PowerShell: mcpchat completion powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName mcpchat -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Select-Object -Skip 1 |
        Where-Object { $_.Extent.StartOffset -lt $cursorPosition } | ForEach-Object { $_.Extent.Text })
    if (-not $wordToComplete) { $words += '' }
    & $commandAst.CommandElements[0].Extent.Text __complete @words 2>$null | ForEach-Object {
        $word, $told = $_ -split "`t", 2
        if ($word -ne 'FILES') {
            if (-not $told) { $told = $word }
            [System.Management.Automation.CompletionResult]::new($word, $word, 'ParameterValue', $told)
        }
    }
}
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH, "powershell": _POWERSHELL}
