"""A server's prompts as people run them: their arguments, from what was typed."""

from collections.abc import Sequence

from mcpchat.core.catalog import Prompt
from mcpchat.core.errors import UsageError
from mcpchat.core.tools import nearest


def prompt_arguments(prompt: Prompt, pairs: Sequence[str]) -> dict[str, str]:
    """The ``key=value`` words as the prompt's arguments. Raises UsageError that says what it takes."""
    known = {argument.name: argument for argument in prompt.arguments}
    said = ", ".join(f"{name} (required)" if one.required else name for name, one in known.items())
    hint = f"{prompt.label} takes {said or 'no arguments'}"
    given: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"{pair!r} is not KEY=VALUE", hint=hint)
        if key not in known:
            close = nearest(key, known, 1)
            raise UsageError(f"no argument {key!r}" + (f"; did you mean {close[0]!r}?" if close else ""), hint=hint)
        given[key] = value
    if lacking := [name for name, one in known.items() if one.required and name not in given]:
        raise UsageError(f"{prompt.label} needs {', '.join(lacking)}", hint=hint)
    return given
