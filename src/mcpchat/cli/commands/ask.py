"""mcpchat ask: one question, one answer."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Annotated, Any

import typer
from msgspec import UNSET

from mcpchat.app import template_files
from mcpchat.app.attachments import read_attachments
from mcpchat.app.chat import open_chat
from mcpchat.app.run_turn import run_turn
from mcpchat.cli.display import add_explanations, choose_renderer, close_renderer
from mcpchat.cli.inputs import read_schema
from mcpchat.cli.options import (
    DisplayOptions,
    NoStdinOption,
    SchemaOption,
    TimeoutOption,
    ask_display,
    choice,
    config_and_servers,
    conversation_options,
    form_answers,
    with_options,
)
from mcpchat.cli.output import format_json, is_terminal
from mcpchat.cli.runtime import build_context, current_run, run_async
from mcpchat.config.run import ConfigChoice, RunContext, RunOptions, get_agent
from mcpchat.core.form_answers import FormAnswers, use_answers
from mcpchat.core.messages import Message, Part, Text, user_message
from mcpchat.core.protocols import ServerDirectory
from mcpchat.core.templates import compose_prompt
from mcpchat.engine.mentions import attach_resources
from mcpchat.errors import LimitReached, ModelError, UsageError
from mcpchat.ui.render.plain import JsonSummary
from mcpchat.ui.terminal import tty
from mcpchat.util import stdin
from mcpchat.util.blocking import run_in_daemon_thread
from mcpchat.util.pipe_reader import end_without_reader
from mcpchat.util.sanitize import strip_invisible
from mcpchat.util.text import replace_surrogates
from mcpchat.util.time_limit import time_limit

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@with_options(options=conversation_options, display=ask_display, config=config_and_servers, answers=form_answers)
def ask(
    options: RunOptions,
    display: DisplayOptions,
    config: ConfigChoice,
    answers: FormAnswers,
    words: Annotated[list[str] | None, typer.Argument(metavar="[WORDS]...", help="The question.")] = None,
    output: Annotated[
        str,
        choice(
            "--output",
            "-o",
            of=("text", "markdown", "json", "jsonl"),
            help="text (rendered at a terminal), markdown (as the model wrote it), json or jsonl.",
        ),
    ] = "text",
    template: Annotated[
        str | None,
        typer.Option("--template", "-t", metavar="NAME", help="Ask with a template; KEY=VALUE words set variables."),
    ] = None,
    attach: Annotated[
        list[str] | None,
        typer.Option("--attach", metavar="FILE", help="Attach a text, an image or a PDF; - is stdin. Repeatable."),
    ] = None,
    schema: SchemaOption = None,
    input_format: Annotated[
        str,
        choice(
            "--input-format", of=("text", "jsonl"), help="text, or jsonl: read messages and answers as lines of stdin."
        ),
    ] = "text",
    no_stdin: NoStdinOption = False,
    timeout: TimeoutOption = None,
) -> int:
    """Ask once: the answer goes to stdout, everything else to stderr.

    The question is the words, or standard input, or both: first the words, then the input.

    \b
      mcpchat ask "What is 15% of 80?"
      cat report.txt | mcpchat ask "Sum up in three lines:"
      mcpchat ask --attach chart.png "What does this show?"
      mcpchat ask -c "And in euros?"                          continues the latest thread
      git diff | mcpchat ask -t review language=German        uses a template
    """
    options = replace(options, track_cost=display.stats or output in {"json", "jsonl"})
    files = attach or []
    if no_stdin and ("-" in files or schema == "-" or input_format == "jsonl"):
        raise UsageError("--no-stdin does not go with an option that reads standard input")
    context = build_context(config, quiet=display.quiet)
    if input_format == "jsonl":
        from mcpchat.cli import jsonl_session

        jsonl_session.validate_options(
            output, {"WORDS": words, "--template": template, "--attach": attach, "--schema": schema}
        )
        with use_answers(answers):
            return run_async(jsonl_session.run(context, options, timeout=timeout, verbose=display.verbose))

    def read_inputs() -> Inputs:
        return Inputs(
            schema=read_schema(schema) if schema is not None else None,
            question=read_question(words or [], context, template=template, read_stdin=not (no_stdin or "-" in files)),
            attachments=read_attachments(files),
        )

    with use_answers(answers):
        return run_async(_answer(context, options, read_inputs, output, display, timeout))


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a question is made of. ``question`` is the words, and the text of standard input."""

    schema: Mapping[str, Any] | None
    question: tuple[str, str]
    attachments: Sequence[Part]


def read_question(
    words: Sequence[str], context: RunContext, *, template: str | None = None, read_stdin: bool = True
) -> tuple[str, str]:
    """Read the question: the words, and the text of standard input. A template's text counts as words.

    Raises UsageError if both are empty.
    """
    piped = "" if not read_stdin or sys.stdin is None or sys.stdin.isatty() else stdin.read_question()
    typed, piped = " ".join(words).strip(), piped.strip("\n")
    if template is not None:
        text = template_files.read_template(context, template)
        text = compose_prompt(template, text, words, strip_invisible(piped), template_files.template_variables(context))
        # Standard input may be anybody's text: once it is part of the text, no mention in it counts.
        typed, piped = ("", text) if piped else (text, "")
    if not f"{typed}{piped}".strip():
        raise UsageError("there is no question", hint='mcpchat ask "What is 1234 * 5678?", or pipe one in')
    typed, piped = (replace_surrogates(part) for part in (typed, piped))
    return typed, strip_invisible(piped)


async def _compose_message(question: tuple[str, str], attachments: Sequence[Part], servers: ServerDirectory) -> Message:
    """The question as a message. Only mentions in the words count, none of standard input."""
    typed, piped = question
    message = await attach_resources(typed, servers) if typed else user_message("")
    text = "\n\n".join(part for part in (typed, piped) if part.strip())
    return Message(role="user", parts=(Text(text=text), *message.parts[1:], *attachments))


def _may_call(context: RunContext, options: RunOptions) -> bool:
    """Whether the run may have tools. A continued thread may bring its own agent."""
    if options.agent is None and (options.continue_latest or options.thread):
        return bool(context.config.servers)
    agent = get_agent(context.config, options.agent)
    return bool(agent.tools and (context.config.servers if agent.servers is None else agent.servers))


async def _answer(
    context: RunContext,
    options: RunOptions,
    read_inputs: Callable[[], Inputs],
    output: str,
    display: DisplayOptions,
    timeout: float | None,
) -> int:
    """Run one turn. Raises LimitReached and Denied after the answer was written, ModelError."""
    end = time.monotonic() + timeout if timeout is not None else None
    async with time_limit(timeout):
        # In a thread: standard input and files can be pipes into which nothing is written.
        inputs = await run_in_daemon_thread(read_inputs)
    options = replace(options, schema=inputs.schema)
    renderer, asker, screen = choose_renderer(
        output, display, context, answers=options.schema is None, may_call=_may_call(context, options)
    )
    emit = add_explanations(renderer, output) if display.verbose else renderer
    summary = renderer if isinstance(renderer, JsonSummary) else None
    try:
        # What is typed meanwhile is not echoed into the answer; the shell gets it afterwards.
        with tty.hold_input() if is_terminal(sys.stdin, sys.stdout) else nullcontext():
            async with (
                time_limit(timeout, end=end) as lift_limit,
                end_without_reader(sys.stdout),
                open_chat(context, options, emit=emit, asker=asker, screen=screen) as chat,
            ):
                message = await _compose_message(inputs.question, inputs.attachments, chat.hub)
                outcome = await run_turn(chat.session, message, secrets=context.secrets)
                lift_limit()
                await chat.name_thread()
    except (ModelError, LimitReached) as error:
        if summary is not None and summary.has_answer:
            error.message, error.hint = context.secrets.redact(error.message), context.secrets.redact(error.hint)
            summary.write(error)
            current_run().error_written = True
        raise
    finally:
        close_renderer(renderer)
    value = format_json(outcome.value) if outcome.value is not UNSET else None
    if summary is not None:
        summary.write(outcome.error, answer=value, value=outcome.value)
        current_run().error_written = outcome.error is not None
    elif value is not None and output != "jsonl":
        sys.stdout.write(f"{value}\n")
    if outcome.error is not None:
        raise outcome.error
    is_first = options.model == "demo" and not context.paths.config.exists()
    if is_first and output == "text" and is_terminal(sys.stdin, sys.stdout, sys.stderr):
        sys.stderr.write("mcpchat init sets up a model and your servers\n")
    return 0
