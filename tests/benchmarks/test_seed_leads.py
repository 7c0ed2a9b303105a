from datetime import timedelta
from random import Random

import pytest
from django.db.models import Count, F, Q

from benchmarks.sample_data import LeadHistory, SampleData
from benchmarks.seed_leads import main, seed
from delivery.configuration import current
from delivery.models import DeliveryAttempt
from leads.models import NEEDS_ATTENTION, EventKind, InboundLead, LeadEvent, LeadStatus
from leads.normalization import normalize, search_keys
from tests import make

pytestmark = pytest.mark.django_db


def test_every_kind_of_lead_is_made() -> None:
    seed(4000)

    statuses = dict(InboundLead.objects.values_list("status").annotate(Count("pk")))
    assert sum(statuses.values()) == 4000
    assert set(statuses) == set(LeadStatus) - {LeadStatus.READY}
    assert 4500 < DeliveryAttempt.objects.count() < 5400
    assert 10 < InboundLead.objects.filter(NEEDS_ATTENTION).count() < 90
    assert LeadEvent.objects.filter(kind=EventKind.DUPLICATE).count() > 20
    assert DeliveryAttempt.objects.filter(finished_at=None).exists()
    assert not InboundLead.objects.exclude(rejection_reason=None).filter(status=LeadStatus.DELIVERED).exists()


def test_the_leads_look_as_the_gateway_writes_them() -> None:
    seed(400)

    for lead in InboundLead.objects.all():
        keys = search_keys(lead.raw_payload)
        columns = (lead.search_email, lead.search_phone, lead.search_zipcode, lead.search_name)
        assert columns == (keys.email, keys.phone, keys.zipcode, keys.name)
        if lead.normalized_payload is not None:
            assert lead.normalized_payload == normalize(lead.raw_payload)
            assert lead.customer_payload
        assert lead.events.order_by("pk")[0].kind == EventKind.RECEIVED
        numbers = list(lead.attempts.order_by("pk").values_list("attempt_no", flat=True))
        assert numbers == [*range(1, len(numbers) + 1)]
        if lead.status != LeadStatus.RECEIVED:
            assert lead.events.exclude(to_status=None).order_by("-pk")[0].to_status == lead.status
    delivered = InboundLead.objects.filter(status=LeadStatus.DELIVERED)
    assert delivered.count() == delivered.filter(attempts__success=True, delivered_at__gte=F("received_at")).count()
    assert not InboundLead.objects.filter(~Q(status=LeadStatus.DELIVERED), attempts__success=True).exists()


def histories(seed: int, *, days: int, total: int) -> list[LeadHistory]:
    samples = SampleData(Random(seed), config=current(), now=make.NOON, days=days, total=total)
    return list(samples.lead_histories(1))


def test_the_same_seed_makes_the_same_leads() -> None:
    assert histories(7, days=30, total=100) == histories(7, days=30, total=100)
    assert histories(7, days=30, total=100) != histories(8, days=30, total=100)


def test_the_leads_are_spread_over_the_days_and_arrive_mostly_by_day() -> None:
    times = [history.lead["received_at"] for history in histories(1, days=2, total=1000)]

    assert times == sorted(times)
    assert make.NOON - timedelta(days=2) <= times[0] < make.NOON - timedelta(days=1, hours=22)
    assert make.NOON - timedelta(hours=1) < times[-1] <= make.NOON
    assert sum(6 <= time.hour < 18 for time in times) > 600


def test_the_next_lead_gets_the_next_id() -> None:
    seed(10)

    assert make.lead().pk == InboundLead.objects.order_by("pk")[9].pk + 1


def test_added_leads_are_others() -> None:
    for _ in range(2):
        seed(10)

    assert InboundLead.objects.values("correlation_id", "payload_hash").distinct().count() == 20


@pytest.mark.parametrize("answer", ["", "no", "y"])
def test_nothing_is_written_without_a_yes(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda _: answer)

    with pytest.raises(SystemExit, match="Nothing was written"):
        main(["10"])
    assert not InboundLead.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_leads_are_added_to_others_only_with_the_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("builtins.input", lambda _: "yes")

    main(["10"])
    output = capsys.readouterr().out
    assert "10 sample leads will be written to" in output
    assert "10 leads in " in output

    with pytest.raises(SystemExit, match="has leads already"):
        main(["10"])
    main(["10", "--add", "--yes"])
    assert InboundLead.objects.count() == 20


@pytest.mark.parametrize("arguments", [["0"], ["10", "--days", "0"]])
def test_numbers_below_one_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        main([*arguments, "--yes"])
