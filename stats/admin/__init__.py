"""The audit browser: staff read leads, find them and run actions on them; nothing else can be changed here."""

from stats.admin import (  # noqa: F401 (registers them)
    attempts,
    bulk_actions,
    dashboard,
    events,
    leads,
    logins,
    monitoring,
    staff,
)
