"""Google Calendar server: calendars, free times, and events: created, changed, answered, deleted; and who is told."""
