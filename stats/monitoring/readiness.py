"""Whether the gateway can take leads: each neighbour looked at once, in a bounded time, and what is wrong in words.

The reasons hold no secret, but they tell of the inside: the view shows them to those who may read the statistics.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from delivery.mapping import MappingError, load_mapping
from leadgateway import db, queue
from leadgateway.logging import get_logger

log = get_logger(__name__)

_LONGEST_REASON = 200

# The queue is looked at beside the db, so that two frozen neighbours cost no more than one.
_beside = ThreadPoolExecutor(max_workers=4, thread_name_prefix="readiness")


@dataclass(frozen=True)
class Check:
    """What a look at one neighbour showed. `facts` is what else is good to know, such as the queue's depth."""

    ok: bool
    reason: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def shown(self, *, detailed: bool) -> dict[str, Any]:
        """Return it for JSON; without details only whether it is well."""
        told = {"reason": self.reason} if self.reason else {}
        return {"ok": self.ok, **(told | self.facts if detailed else {})}


def look() -> dict[str, Check]:
    """Look at every neighbour; takes DATABASE_TIMEOUT at most, and never raises.

    The wait for the database also depends on its pool, which is bounded where the web server sets it up.
    """
    timeout = settings.DATABASE_TIMEOUT
    ends_at = time.monotonic() + timeout.total_seconds()
    depth = _beside.submit(queue.depth)
    with db.deadline(timeout):
        reached = _database()
        migrations = _migrations() if reached.ok else Check(False, "not looked at: the database is away")
    mapping = _mapping()
    try:
        waiting = Check(True, facts={"depth": depth.result(timeout=max(0.0, ends_at - time.monotonic()))})
    except queue.QueueUnavailable as error:
        waiting = Check(False, f"cannot be reached ({error})")
    except TimeoutError:
        depth.cancel()
        waiting = Check(False, "did not answer in time")
    return {"database": reached, "queue": waiting, "migrations": migrations, "mapping": mapping}


def status(checks: dict[str, Check]) -> str:
    """Return `ready`, `degraded` (only the queue is away: leads are stored all the same) or `not ready`."""
    wrong = {name for name, check in checks.items() if not check.ok}
    return "ready" if not wrong else "degraded" if wrong == {"queue"} else "not ready"


def _database() -> Check:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except db.UNAVAILABLE as error:
        log.warning("database_not_ready", exc_info=error)
        return Check(False, f"cannot be reached, or did not answer in time ({type(error).__name__})")
    return Check(True)


def _migrations() -> Check:
    try:
        applied = set(MigrationRecorder(connection).migration_qs.values_list("app", "name"))
    except db.UNAVAILABLE as error:
        return Check(False, f"cannot be read ({type(error).__name__}); has `manage.py migrate` run?")
    missing = sorted(_migrations_of_the_code() - applied)
    if not missing:
        return Check(True)
    return Check(False, _shortened(f"{len(missing)} not applied: {', '.join('.'.join(one) for one in missing)}"))


@cache
def _migrations_of_the_code() -> frozenset[tuple[str, str]]:
    return frozenset(MigrationLoader(None, ignore_no_migrations=True).disk_migrations)


def _mapping() -> Check:
    try:
        mapping = load_mapping(settings.ATTRIBUTE_MAPPING_FILE)
    except MappingError as error:
        return Check(False, _shortened(str(error).partition("\n")[0]))
    return Check(True, facts={"sha256": mapping.sha256})


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 3]}..."
