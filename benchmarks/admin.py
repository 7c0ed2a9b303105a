"""`python -m benchmarks.admin`: measure every page of the admin with a million leads, on a private PostgreSQL.

It seeds the leads first, which takes some minutes. Then it requests every list, search, filter and page a few times,
in this process and without a network. For each page it prints the median and the maximum time, the number of queries,
and the number of results or the status.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import environment
from tests.servers import PostgresServer

#: Maximum median time of a page.
LIMIT_MS = 300

LEADS = "/admin/leads/inboundlead/"


class OrdinaryPostgres(PostgresServer):
    """A server with the default shared_buffers of PostgreSQL. The tests use less."""

    def _command(self, directory: Path) -> list[str]:
        return [*super()._command(directory), "-c", "shared_buffers=128MB"]


def main() -> None:
    """Measure every page and print a line for each."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.admin", description=__doc__)
    arguments.add_argument("--leads", type=int, default=1_000_000)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--database", metavar="URL", help="measure this database, which was seeded before")
    arguments.add_argument("--only", default="", help="measure only pages whose name contains this text")
    options = arguments.parse_args()
    with _django(options):
        client, pages = _client(), _pages()
        print(f"{'page':<60} {'median ms':>9} {'max ms':>7} {'queries':>7}  result")
        for name, url in pages.items():
            if options.only in name:
                _measure(client, name, url, runs=options.runs)
        if options.only in "export":
            _measure_export(client)


@contextmanager
def _django(options: argparse.Namespace) -> Iterator[None]:
    """Load the settings for a database with the requested number of leads."""
    import django

    quiet = {"QUEUE_TYPE": "database", "LOG_LEVEL": "error"}
    with tempfile.TemporaryDirectory(prefix="lead-gateway-") as var:
        if options.database:
            environment.take_over(VAR_DIR=var, DATABASE_URL=options.database, **quiet)
            django.setup()
            yield
            return
        with OrdinaryPostgres() as postgres:
            postgres.create_database("admin_at_size")
            environment.take_over(VAR_DIR=var, DB_NAME="admin_at_size", **postgres.env, **quiet)
            django.setup()
            _seed(options.leads)
            yield


def _seed(leads: int) -> None:
    from django.core.management import call_command

    from benchmarks import seed_leads

    call_command("migrate", verbosity=0)
    seed_leads.seed(leads)
    seed_leads.analyze()


def _client() -> Any:
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.filter(username="bench").first() or User.objects.create_superuser("bench"))
    return client


def _pages() -> dict[str, str]:
    return {**_lists(), **_searches(), **_others()}


def _lists() -> dict[str, str]:
    from django.utils import timezone

    day = timezone.localdate().isoformat()
    queries = [
        *("", "p=2", "p=200", "o=2", "o=2&p=200"),
        *(f"status={status}" for status in ("RECEIVED", "REJECTED", "READY", "DELIVERED", "FAILED")),
        *("status=PERMANENTLY_FAILED", "status=DELIVERED&p=200", "reason=ZIP_NOT_66XXX", "reason=NOT_HOMEOWNER"),
        *(f"situation={situation}" for situation in ("attention", "waiting", "unknown", "duplicates")),
        *("situation=attention&p=200", "situation=duplicates&p=200"),
        *(f"received={when}" for when in ("today", "yesterday", "week", "month")),
        *(f"from={day}", f"from={day}&to={day}", f"to={day}"),
        *("answer=200", "answer=503", "answer=404", "answer=4xx", "answer=5xx", "answer=none"),
        *("answer=timeout", "answer=999"),
        *("situation=attention&answer=503", "situation=attention&answer=4xx", "situation=duplicates&received=week"),
        *("situation=unknown&received=today", "status=REJECTED&received=today", "status=DELIVERED&answer=201"),
        *("status=PERMANENTLY_FAILED&answer=503&received=month", "status=REJECTED&reason=NOT_HOMEOWNER&received=week"),
        *("situation=attention&status=FAILED&received=yesterday", "status=DELIVERED&situation=unknown"),
    ]
    return {f"list {query}": f"{LEADS}?{query}" for query in queries}


def _searches() -> dict[str, str]:
    """Return searches that find a lead in the middle of the table, and searches without results."""
    from django.utils.http import urlencode

    from leads.models import InboundLead

    lead: Any = InboundLead.objects.filter(search_phone__isnull=False).order_by("pk")[InboundLead.objects.count() // 2]
    texts = {
        "id": f"#{lead.pk}",
        "correlation id": lead.correlation_id,
        "correlation id, 8 digits": str(lead.correlation_id)[:8],
        "e-mail": lead.search_email.upper(),
        "phone": f"0{lead.search_phone[3:6]}/{lead.search_phone[6:9]} {lead.search_phone[9:]}",
        "zip code": lead.search_zipcode,
        "name": lead.search_name,
        "last name, first name": "mustermann erika",
        "last name": "Mustermann",
        "beginning of a name": "muster",
        "beginning of many names": "s",
        "two beginnings": "s m",
        "unknown name": "Xaver Unbekannt",
        "unknown e-mail": "nobody@example.org",
        "unknown phone": "0151 00000000",
        "nonsense": "%' OR 1=1 --",
    }
    pages = {f"search {what}": f"{LEADS}?{urlencode({'q': text})}" for what, text in texts.items()}
    return pages | {"search last name, today": f"{LEADS}?q=Mustermann&received=today&status=DELIVERED"}


def _others() -> dict[str, str]:
    from leads.models import InboundLead, LeadStatus

    def lead(**condition: Any) -> str:
        return f"{LEADS}{InboundLead.objects.filter(**condition).order_by('-pk')[0].pk}/change/"

    attempts, events = "/admin/delivery/deliveryattempt/", "/admin/leads/leadevent/"
    return {
        "sidebar counts": f"{LEADS}counts/",
        "lead delivered": lead(status=LeadStatus.DELIVERED),
        "lead permanently failed": lead(status=LeadStatus.PERMANENTLY_FAILED),
        "attempts": attempts,
        "attempts p=200": f"{attempts}?p=200",
        **{f"attempts outcome={each}": f"{attempts}?outcome={each}" for each in ("success", "failed", "unknown")},
        **{f"attempts answer={each}": f"{attempts}?answer={each}" for each in ("1xx", "2xx", "4xx", "5xx", "none")},
        "attempts failed with 5xx": f"{attempts}?outcome=failed&answer=5xx",
        "attempts of a lead": f"{attempts}?q=500000",
        "events": events,
        "events p=200": f"{events}?p=200",
        **{f"events kind={each}": f"{events}?kind={each}" for each in ("received", "mapped", "duplicate", "resolved")},
        **{f"events kind={each}": f"{events}?kind={each}" for each in ("redelivered", "revealed", "exported")},
        **{f"events actor={each}": f"{events}?actor={each}" for each in ("webhook", "worker", "sweep", "person")},
        "events of a lead": f"{events}?q=500000",
        "bulk actions": "/admin/delivery/bulkaction/",
        "users": "/admin/auth/user/",
        "dashboard": "/admin/",
    }


def _measure(client: Any, name: str, url: str, *, runs: int) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        response = client.get(url)
    queries = len(captured)
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        client.get(url)
        times.append((time.perf_counter() - began) * 1000)
    median, result = statistics.median(times), response.headers.get("Location") or _size(response)
    slow = "  SLOW" if median > LIMIT_MS else ""
    print(f"{name:<60} {median:>9.0f} {max(times):>7.0f} {queries:>7}  {result}{slow}", flush=True)


def _size(response: Any) -> str:
    changelist = getattr(response, "context_data", {}).get("cl") if response.status_code == 200 else None
    return f"{changelist.result_count:,} found" if changelist else f"{response.status_code}"


def _measure_export(client: Any) -> None:
    for name, query in (("csv", ""), ("csv", "situation=attention"), ("jsonl", "")):
        began = time.perf_counter()
        response = client.post(f"{LEADS}export/", {"format": name, "query": query})
        parts = iter(response.streaming_content)
        next(parts)
        first = (time.perf_counter() - began) * 1000
        size = sum(map(len, parts))
        took = time.perf_counter() - began
        print(
            f"export {name} {query}: first lines after {first:.0f} ms, {size / 1e6:.0f} MB in {took:.1f} s, {_memory()}"
        )


def _memory() -> str:
    with open(f"/proc/{os.getpid()}/status") as status:
        return next(line.split(":")[1].strip() for line in status if line.startswith("VmHWM")) + " maximum"


if __name__ == "__main__":
    main()
