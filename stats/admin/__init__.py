"""The audit browser: what people see of the leads, find, and may order for them; everything else is only looked at."""

from stats.admin import (  # noqa: F401 (registers them)
    attempts,
    dashboard,
    events,
    leads,
    logins,
    monitoring,
    orders,
    staff,
)
