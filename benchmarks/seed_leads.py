import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from random import Random
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, transaction
from django.utils import timezone
from tqdm import tqdm

from benchmarks.sample_data import LeadHistory, Samples
from delivery.configuration import current
from delivery.models import DeliveryAttempt
from leads.models import InboundLead, LeadEvent

#: Leads that are written in one transaction.
BATCH = 2_000

Rows = Sequence[dict[str, Any]]


class Command(BaseCommand):
    help = (
        "Fill the database with sample leads of the last days, their attempts and their trail, to see the admin at "
        "size. The leads are invented, and the trail keeps what was written: never do it where real leads are. A "
        "running worker delivers the few that are still under way."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("leads", nargs="?", type=int, default=1_000_000, help="how many (default: 1,000,000)")
        parser.add_argument("--days", type=int, default=30, help="the days over which they came (default: 30)")
        parser.add_argument(
            "--seed",
            type=int,
            default=1,
            help="the same number fills an empty database with the same leads (default: 1)",
        )
        parser.add_argument("--add", action="store_true", help="also when there are leads already")
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["leads"] < 1 or options["days"] < 1:
            raise CommandError("The number of leads and of days must be 1 or more.")
        if InboundLead.objects.exists() and not options["add"]:
            raise CommandError("There are leads already. --add adds sample leads to them.")
        if not options["yes"]:
            self._ask(options["leads"])
        began = time.monotonic()
        self._fill(options)
        took = time.monotonic() - began
        self.stdout.write(f"{options['leads']:,} leads in {took:.1f} s, {options['leads'] / took:,.0f} a second")

    def _ask(self, leads: int) -> None:
        where = "{HOST}:{PORT}/{NAME}".format(**connection.settings_dict).lstrip(":/")
        self.stdout.write(f"{leads:,} sample leads will be written to {where}, for good.")
        self.stdout.write(f"A worker would deliver those under way to {settings.CUSTOMER_API_URL}.")
        if input("Type yes to go on: ").strip().lower() != "yes":
            raise CommandError("Nothing was written.")

    def _fill(self, options: dict[str, Any]) -> None:
        total = options["leads"]
        first_id = _reserve_ids(total)
        samples = Samples(
            Random(f"{options['seed']} {first_id}"),
            config=current(),
            now=timezone.now(),
            days=options["days"],
            total=total,
        )
        lives = samples.lives(first_id)
        hidden = options["verbosity"] == 0 or None  # None: where there is no terminal
        with tqdm(total=total, unit=" leads", unit_scale=True, disable=hidden) as bar:
            while batch := list(islice(lives, BATCH)):
                _write(batch)
                bar.update(len(batch))
        _take_stock()


def _reserve_ids(total: int) -> int:
    """Return the first of as many lead ids in a row, which nobody else will get."""
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
        _insert(InboundLead, [life.lead for life in batch])
        _insert(DeliveryAttempt, [attempt for life in batch for attempt in life.attempts])
        _insert(LeadEvent, [event for life in batch for event in life.events])


def _insert(model: Any, rows: Rows) -> None:
    if not rows:
        return
    table, columns = model._meta.db_table, ", ".join(rows[0])
    values = (tuple(row.values()) for row in rows)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for row in values:
                    copy.write_row(row)
        else:
            marks = ", ".join(["%s"] * len(rows[0]))
            cursor.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", list(_for_sqlite(values)))  # noqa: S608


def _for_sqlite(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[Any]]:
    for row in rows:
        yield [_sqlite_value(value) for value in row]


def _sqlite_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ")
    return value.hex if isinstance(value, UUID) else value


def _take_stock() -> None:
    """Have the database count what is there now: without it, its plans are for an empty one."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)" if connection.vendor == "postgresql" else "ANALYZE")
