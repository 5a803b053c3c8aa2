"""Exceptions."""


def innermost_error(error: BaseException) -> BaseException:
    """The first error inside nested exception groups; the error itself if it is not a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
