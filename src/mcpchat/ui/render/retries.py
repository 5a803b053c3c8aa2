"""Counts how often one request to the model is sent again."""

from mcpchat.core.events import Event, Notice


class RetryCounter:
    """Follows the events of a turn."""

    def __init__(self) -> None:
        self._count = 0

    def update(self, event: Event) -> int:
        """Take an event. Returns the number of this retry, counted from 1; 0 if the event is no retry."""
        if isinstance(event, Notice):
            self._count += event.topic == "retry"
            return self._count if event.topic == "retry" else 0
        self._count = 0
        return 0
