from datetime import timedelta
from io import StringIO
from random import Random
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Count, F, Q

from benchmarks.sample_data import LeadHistory, Samples
from delivery.configuration import current
from delivery.models import DeliveryAttempt
from leads.models import NEEDS_ATTENTION, EventKind, InboundLead, LeadEvent, LeadStatus
from leads.normalization import normalize, search_keys
from tests import make

pytestmark = pytest.mark.django_db


def seed(number: int, *options: str, **more: Any) -> str:
    out = StringIO()
    call_command("seed_leads", str(number), "--yes", *options, stdout=out, verbosity=0, **more)
    return out.getvalue()


@pytest.fixture(autouse=True)
def _no_stock_taking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out VACUUM, which no test's transaction allows."""
    from benchmarks import seed_leads

    monkeypatch.setattr(seed_leads, "_take_stock", lambda: None)


def test_it_makes_as_many_leads_of_every_kind() -> None:
    assert seed(4000).startswith("4,000 leads in ")

    statuses = dict(InboundLead.objects.values_list("status").annotate(Count("pk")))
    assert sum(statuses.values()) == 4000
    assert set(statuses) == set(LeadStatus) - {LeadStatus.READY}
    assert 4500 < DeliveryAttempt.objects.count() < 5400
    assert 10 < InboundLead.objects.filter(NEEDS_ATTENTION).count() < 90
    assert LeadEvent.objects.filter(kind=EventKind.DUPLICATE).count() > 20
    assert DeliveryAttempt.objects.filter(finished_at=None).exists()
    assert not InboundLead.objects.exclude(rejection_reason=None).filter(status=LeadStatus.DELIVERED).exists()


def test_the_leads_are_as_the_gateway_would_have_written_them() -> None:
    seed(300)

    for lead in InboundLead.objects.all():
        keys = search_keys(lead.raw_payload)
        written = (lead.search_email, lead.search_phone, lead.search_zipcode, lead.search_name)
        assert written == (keys.email, keys.phone, keys.zipcode, keys.name)
        if lead.normalized_payload is not None:
            assert lead.normalized_payload == normalize(lead.raw_payload)
            assert lead.customer_payload
        assert lead.events.order_by("pk")[0].kind == EventKind.RECEIVED
        assert list(lead.attempts.order_by("pk").values_list("attempt_no", flat=True)) == [
            *range(1, lead.attempts.count() + 1)
        ]


def test_the_trail_ends_where_the_lead_stands() -> None:
    seed(400)

    for lead in InboundLead.objects.exclude(status=LeadStatus.RECEIVED):
        assert lead.events.exclude(to_status=None).order_by("-pk")[0].to_status == lead.status
    delivered = InboundLead.objects.filter(status=LeadStatus.DELIVERED)
    assert delivered.count() == delivered.filter(attempts__success=True, delivered_at__gte=F("received_at")).count()
    assert not InboundLead.objects.filter(~Q(status=LeadStatus.DELIVERED), attempts__success=True).exists()


def test_the_same_seed_makes_the_same_leads() -> None:
    def made(seed: str) -> list[LeadHistory]:
        return list(Samples(Random(seed), config=current(), now=make.NOON, days=30, total=100).lives(1))

    assert made("7") == made("7")
    assert made("7") != made("8")


def test_the_leads_came_by_day_in_the_days_asked_for() -> None:
    lives = list(Samples(Random(1), config=current(), now=make.NOON, days=2, total=1000).lives(1))

    times = [life.lead["received_at"] for life in lives]
    assert times == sorted(times)
    assert make.NOON - timedelta(days=2) <= times[0] < make.NOON - timedelta(days=1, hours=22)
    assert make.NOON - timedelta(hours=1) < times[-1] <= make.NOON
    by_day = sum(6 <= time.hour < 18 for time in times)
    assert by_day > 600


def test_more_samples_may_be_added_again_and_again() -> None:
    for _ in range(2):
        seed(20, "--add")

    assert InboundLead.objects.values("correlation_id", "payload_hash").distinct().count() == 40


def test_the_next_lead_gets_the_next_id() -> None:
    seed(10)

    assert make.lead().pk == InboundLead.objects.order_by("pk")[9].pk + 1


def test_leads_that_are_there_are_not_mixed_with_samples_by_mistake() -> None:
    make.lead()

    with pytest.raises(CommandError, match="There are leads already"):
        seed(10)
    assert InboundLead.objects.count() == 1

    seed(10, "--add")
    assert InboundLead.objects.count() == 11


@pytest.mark.parametrize("answer", ["", "no", "y"])
def test_nothing_is_written_without_a_yes(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda _: answer)

    with pytest.raises(CommandError, match="Nothing was written"):
        call_command("seed_leads", "10", stdout=StringIO(), verbosity=0)
    assert not InboundLead.objects.exists()


def test_who_says_yes_gets_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda _: "yes")
    out = StringIO()

    call_command("seed_leads", "10", stdout=out, verbosity=0)

    assert "10 sample leads will be written to" in out.getvalue()
    assert InboundLead.objects.count() == 10


@pytest.mark.parametrize("arguments", [["0"], ["-5"], ["10", "--days", "0"]])
def test_impossible_numbers_are_refused(arguments: list[str]) -> None:
    with pytest.raises(CommandError, match="must be 1 or more"):
        call_command("seed_leads", *arguments, "--yes", verbosity=0)
