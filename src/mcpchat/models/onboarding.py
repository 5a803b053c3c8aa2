"""Help for users without a model: the first screen of the chat, and the errors that say how to choose one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mcpchat.config.schema import ModelEntry
from mcpchat.errors import ModelError, NoModelConfigured

if TYPE_CHECKING:
    from mcpchat.models.local_discovery import LocalServer
    from mcpchat.models.providers import ProviderModel


async def onboarding(clients: Sequence[str]) -> tuple[str, dict[str, ModelEntry]]:
    """The first screen of a chat without a model, and config entries for the local models that were found, by name.

    The demo model answers in such a chat. ``clients`` are other MCP clients that have servers to import.
    """
    from mcpchat.models import local_discovery

    return format_onboarding([server for server in await local_discovery.discover() if server.models], clients)


def format_onboarding(
    servers: "Sequence[LocalServer]", clients: Sequence[str] = ()
) -> tuple[str, dict[str, ModelEntry]]:
    """The first screen if these servers run on this machine, and an entry for the first model of each."""
    entries = {
        server.name.lower().replace(" ", "").partition(".")[0]: ModelEntry(
            name=server.models[0], base_url=server.base_url
        )
        for server in servers
    }
    local_lines = [
        f"{server.name} is running, with {', '.join(server.models[:3])}: /model {label}"
        for server, label in zip(servers, entries, strict=True)
    ]
    lines = (
        "mcpchat connects a language model to tools: local and remote MCP servers.",
        "No model is set up. The built-in demo answers instead: it is not a language",
        "model, but it really calls tools, such as the calculator.",
        "",
        "  try it           What is 1234 * 5678?",
        "  set up           mcpchat init: a model, servers, a chat; with single keys",
        "  add a model      export OPENAI_API_KEY=...  (others: OPENAI_BASE_URL too)",
        *(f"  on this machine  {line}" for line in local_lines or ["none found (Ollama, LM Studio, llama.cpp, vLLM)"]),
        *([f"  your servers     in {_join(clients)}: mcpchat import"] if clients else []),
        "  add a server     /servers add deepwiki   (or NAME URL, NAME -- COMMAND)",
        "  more             /help",
    )
    return "\n".join(lines), entries


def _join(clients: Sequence[str]) -> str:
    more = len(clients) - 2
    return ", ".join(clients[:2]) + (f" and {more} more" if more > 0 else "")


async def no_model_help(name: str | None, tables: Sequence[str], *, key_variable: str) -> str:
    """The error message if no model can be used: how to set one up, with the local servers that answer now.

    ``name`` is the requested model; ``tables`` are the [model.NAME] tables of the config; ``key_variable`` is
    the environment variable that should contain the key.
    """
    if tables and name is None:
        return (
            f"no model is chosen; the config has {', '.join(tables)}.\n"
            f"For this run:  --model {tables[0]}\n"
            f'For all runs, in the config:  [model] name = "{tables[0]}"'
        )
    from mcpchat.models import local_discovery

    servers = await local_discovery.discover()
    if servers:
        local = "\n".join(
            f"       OPENAI_BASE_URL={server.base_url} mcpchat --model {(server.models or ('NAME',))[0]}\n"
            f"       ({server.name} is running{', with ' + ', '.join(server.models[:5]) if server.models else ''})"
            for server in servers
        )
    else:
        local = (
            "       OPENAI_BASE_URL=http://127.0.0.1:11434/v1 mcpchat --model NAME\n"
            "       (no server found on the default ports of Ollama, LM Studio, llama.cpp, vLLM)"
        )
    for_model = f" for {name}" if name else ""
    return (
        f"no model can be used{for_model}: {key_variable} is not set. Choose one of these:\n"
        "\n"
        "  1. Set an API key of OpenAI or of a compatible service (then OPENAI_BASE_URL too):\n"
        "       export OPENAI_API_KEY=...\n"
        "  2. Use a model server on this machine:\n"
        f"{local}\n"
        "  3. Try the demo, which needs no key and no network:\n"
        '       mcpchat ask --model demo "What is 1234 * 5678?"\n'
        "\n"
        "mcpchat init asks for one of these, and saves it in the config file"
    )


async def find_only_model(model: "ProviderModel", base_url: str) -> str:
    """The name of the only model of a server, for a config with an address but no name.

    Raises NoModelConfigured, with the server's models, if there is not exactly one.
    """
    try:
        names = [info.name for info in await model.list_models()]
    except ModelError as error:
        raise NoModelConfigured(
            f"no model name is set, and {base_url} does not list its models: {error.message}\nSet it: --model NAME"
        ) from error
    if len(names) == 1:
        return names[0]
    raise NoModelConfigured(f"no model name is set; {base_url} has: {', '.join(names) or 'none'}\nSet it: --model NAME")
