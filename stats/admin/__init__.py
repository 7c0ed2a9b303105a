"""The admin: staff find and read leads and run actions on them. Nothing else can be changed here."""

from stats.admin import (  # noqa: F401 (importing a module registers its pages)
    attempts,
    bulk_actions,
    dashboard,
    events,
    leads,
    logins,
    monitoring,
    staff,
)
