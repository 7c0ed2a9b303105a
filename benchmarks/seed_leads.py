"""`python -m benchmarks.seed_leads`: fill the configured database with invented leads, to see the admin at size.

The leads are spread over the last days and have attempts and events. The audit log is append-only, so they cannot be
removed: use an empty database, never one with real leads. A running worker delivers the few that are still in progress.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from random import Random
from typing import Any
from uuid import UUID

import django
from tqdm import tqdm

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "leadgateway.settings")

from leadgateway.startup import load_settings

load_settings()
django.setup()

from django.conf import settings  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.utils import timezone  # noqa: E402

from benchmarks.sample_data import LeadHistory, SampleData  # noqa: E402
from delivery.configuration import current  # noqa: E402
from delivery.models import DeliveryAttempt  # noqa: E402
from leads.models import InboundLead, LeadEvent  # noqa: E402

#: Number of leads that are written in one transaction.
BATCH = 2_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and seed the database of the settings."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seed_leads", description=__doc__)
    parser.add_argument("leads", nargs="?", type=_positive, default=1_000_000, help="number of leads (1000000)")
    parser.add_argument("--days", type=_positive, default=30, help="number of days that the leads are spread over (30)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed fills an empty database with the same leads")
    parser.add_argument("--add", action="store_true", help="add to a database that has leads already")
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    options = parser.parse_args(arguments)

    _check_and_confirm(options)
    began = time.monotonic()
    seed(options.leads, days=options.days, random_seed=options.seed)
    analyze()
    took = time.monotonic() - began
    print(f"{options.leads:,} leads in {took:.1f} s, {options.leads / took:,.0f} per second")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _check_and_confirm(options: argparse.Namespace) -> None:
    if InboundLead.objects.exists() and not options.add:
        sys.exit("The database has leads already. --add adds sample leads to them.")
    if options.yes:
        return
    database = "{HOST}:{PORT}/{NAME}".format(**connection.settings_dict).lstrip(":/")
    print(f"{options.leads:,} sample leads will be written to {database}. They cannot be removed.")
    print(f"A running worker delivers those in progress to {settings.CUSTOMER_API_URL}.")
    if input("Type yes to continue: ").strip().lower() != "yes":
        sys.exit("Nothing was written.")


def seed(leads: int, *, days: int = 30, random_seed: int = 1) -> None:
    """Write sample leads with their attempts and events."""
    first_id = _reserve_ids(leads)
    random = Random(f"{random_seed} {first_id}")
    samples = SampleData(random, config=current(), now=timezone.now(), days=days, total=leads)
    histories = samples.lead_histories(first_id)
    with tqdm(total=leads, unit=" leads", unit_scale=True, disable=None) as bar:  # None: no bar without a terminal
        while batch := list(islice(histories, BATCH)):
            _write(batch)
            bar.update(len(batch))


def analyze() -> None:
    """Update the planner's statistics, which otherwise describe an empty database."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)" if connection.vendor == "postgresql" else "ANALYZE")


def _reserve_ids(total: int) -> int:
    """Return the first of `total` consecutive lead ids, and keep other writers from using them."""
    if connection.vendor != "postgresql":
        return (InboundLead.objects.order_by("-pk").values_list("pk", flat=True).first() or 0) + 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_serial_sequence('inbound_lead', 'id')")
        sequence = cursor.fetchone()[0]
        cursor.execute("SELECT nextval(%s)", [sequence])
        first = int(cursor.fetchone()[0])
        cursor.execute("SELECT setval(%s, %s)", [sequence, first + total - 1])
    return first


def _write(batch: list[LeadHistory]) -> None:
    with transaction.atomic():
        _insert(InboundLead, [history.lead for history in batch])
        _insert(DeliveryAttempt, [attempt for history in batch for attempt in history.attempts])
        _insert(LeadEvent, [event for history in batch for event in history.events])


def _insert(model: Any, dicts: Sequence[dict[str, Any]]) -> None:
    if not dicts:
        return
    names = [field.column for field in model._meta.concrete_fields if field.column in dicts[0]]
    table, columns = model._meta.db_table, ", ".join(names)
    values = (tuple(row[name] for name in names) for row in dicts)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for row in values:
                    copy.write_row(row)
        else:
            marks = ", ".join(["%s"] * len(names))
            rows = [[_sqlite_value(value) for value in row] for row in values]
            cursor.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)  # noqa: S608


def _sqlite_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ")
    return value.hex if isinstance(value, UUID) else value


if __name__ == "__main__":
    main()
