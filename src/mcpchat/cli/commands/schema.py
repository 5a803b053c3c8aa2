"""batch, schema and completion: what scripts build on besides ask and call."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from mcpchat.cli.completion import SCHEMAS, STEPS
from mcpchat.cli.options import (
    AgentOption,
    AllowOption,
    ConfigOption,
    CostOption,
    DebugOption,
    DenyOption,
    ModelOption,
    NoColorOption,
    QuietOption,
    SchemaOption,
    StepsOption,
    TokensOption,
    YesOption,
    bad_choice,
    make_setup,
    run_async,
)


def batch(
    source: Annotated[str, typer.Argument(metavar="FILE|-", help="The requests, one JSON object a line; - is stdin.")],
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="RESULTS", help="The results, for your eyes alone. Default: stdout."),
    ] = None,
    model: ModelOption = None,
    agent: AgentOption = None,
    schema: SchemaOption = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-j", metavar="N", min=1, max=1000, help="Requests at a time.")
    ] = 8,
    ordered: Annotated[
        bool, typer.Option("--ordered", help="Results in the order of the requests, not as they finish.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with RESULTS of an earlier run: what has a result is not run again.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="With --resume: run those again that failed.")
    ] = False,
    shard: Annotated[
        str,
        typer.Option("--shard", metavar="K/N", help="Only every N-th line, from the K-th on."),
    ] = "1/1",
    retries: Annotated[
        int,
        typer.Option("--retries", metavar="N", min=0, help="Tries more of what fails in passing."),
    ] = 2,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", min=0.001, help="The longest for one request."),
    ] = None,
    no_tools: Annotated[bool, typer.Option("--no-tools", help="Offer the model no tools.")] = False,
    provider_batch: Annotated[
        str | None,
        typer.Option(
            "--provider-batch",
            metavar="STEP",
            help="Have the provider run it, without tools: run, or submit, wait and fetch one by one.",
        ),
    ] = None,
    poll: Annotated[
        float, typer.Option("--poll", metavar="SECONDS", min=0.01, help="How often the provider is asked.")
    ] = 30.0,
    allow: AllowOption = None,
    deny: DenyOption = None,
    yes: YesOption = False,
    max_steps: StepsOption = None,
    max_tokens: TokensOption = None,
    max_cost: CostOption = None,
    quiet: QuietOption = False,
    config: ConfigOption = None,
    no_color: NoColorOption = False,
    debug: DebugOption = False,
) -> int:
    """Run many requests, one a line, and write one result a line.

    A line is {"prompt": "..."} or {"messages": [...]}, with id, agent, model, schema and attach as wanted.
    All share the servers and one budget. Ctrl-C lets what runs come to its end; --resume goes on, also after a crash.

    \b
      mcpchat batch requests.jsonl -f results.jsonl
      mcpchat batch requests.jsonl -f results.jsonl --resume
      jq -c '{prompt: .question}' data.jsonl | mcpchat batch - --ordered | jq -r .answer
    """
    from mcpchat.batch.types import read_shard
    from mcpchat.cli.commands import batch, batch_provider
    from mcpchat.cli.inputs import read_schema
    from mcpchat.config.run import Wishes

    job = batch.Job(
        source=source,
        target=None if file == Path("-") else file,
        ordered=ordered,
        resume=resume,
        again=retry_failed,
        shard=read_shard(shard),
        concurrency=concurrency,
        retries=retries,
        timeout=timeout,
        quiet=quiet,
        no_color=no_color,
    )
    job.check()
    wishes = Wishes(
        model=model,
        agent=agent,
        allow=tuple(allow or ()),
        deny=tuple(deny or ()),
        yes=yes,
        max_steps=max_steps,
        max_tokens=max_tokens,
        max_cost=max_cost,
        schema=read_schema(schema) if schema is not None else None,
        priced=True,
        save=False,
        tools=not no_tools,
    )
    if provider_batch is not None:
        if provider_batch not in STEPS:
            bad_choice("--provider-batch", provider_batch, STEPS)
        batch_provider.check(wishes, job)
        setup = make_setup(config, quiet=quiet)
        return run_async(batch_provider.run(setup, wishes, job, provider_batch, poll))
    return run_async(batch.run(make_setup(config, quiet=quiet), wishes, job))


def schema(
    name: Annotated[str, typer.Argument(metavar="NAME", help="events, input, answer, batch, result or config.")],
) -> int:
    """Print the JSON Schema of what is written and read.

    \b
      events   each line of ask -o jsonl          input    each line of ask --input-format jsonl
      answer   the object of ask -o json          config   the config file
      batch    each line that batch reads         result   each line that batch writes
    """
    from mcpchat.batch import types
    from mcpchat.config import schema as configuration
    from mcpchat.core import jsonl_protocol

    if name not in SCHEMAS:
        bad_choice("NAME", name, SCHEMAS)
    made = {
        "events": jsonl_protocol.written_schema,
        "input": jsonl_protocol.input_schema,
        "answer": jsonl_protocol.answer_schema,
        "batch": types.request_schema,
        "result": types.result_schema,
        "config": configuration.json_schema,
    }[name]()
    sys.stdout.write(json.dumps(made, indent=2) + "\n")
    return 0


def completion(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh, fish or powershell.")],
) -> int:
    """Print what a shell needs to complete mcpchat: commands, options, names of servers, tools, threads, agents.

    \b
      eval "$(mcpchat completion bash)"                                       in ~/.bashrc; zsh in ~/.zshrc
      mcpchat completion fish > ~/.config/fish/completions/mcpchat.fish
      mcpchat completion powershell | Out-String | Invoke-Expression          in $PROFILE
    """
    from mcpchat.cli import completion

    if shell not in completion.SHELLS:
        bad_choice("SHELL", shell, completion.SHELLS)
    sys.stdout.write(completion.script(shell))
    return 0
