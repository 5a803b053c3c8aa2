"""A model selector for a config."""

from pathlib import Path

from mcpchat.config import schema
from mcpchat.config.run import Paths, RunContext
from mcpchat.models.selection import ModelSelector

TABLES = """
[model]
name = "gpt-5.5"
api_key = "env:KEY"
[model.mini]
name = "gpt-5.5-mini"
reasoning_effort = "low"
[model.local]
base_url = "http://127.0.0.1:9/v1"
name = "qwen3"
temperature = 0.2
extra_body = { top_k = 20 }
[model.azure]
base_url = "https://me.openai.azure.com/openai/v1"
api_key = "env:AZURE"
name = "my-deployment"
[model.old]
base_url = "https://api.openai.com/v1"
api = "chat"
"""
UNUSED_PATH = Path("/nowhere")


def models(text: str = "", *, priced: bool = False, **environ: str) -> ModelSelector:
    context = RunContext(
        config=schema.parse(text, "c.toml"),
        environ=environ,
        paths=Paths(config=UNUSED_PATH, cache=UNUSED_PATH, state=UNUSED_PATH, data=UNUSED_PATH),
    )
    return ModelSelector(context, track_cost=priced)
