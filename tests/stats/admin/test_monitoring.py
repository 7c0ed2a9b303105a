"""Incidents and hourly statistics in the admin."""

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.utils import timezone

from leadgateway.time_format import span
from stats.models import Alert, Heartbeat, HourlyStatistics, Incident
from tests.make import NOON
from tests.stats.admin.pages import HOURS, INCIDENTS, client_of, text_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def incident() -> Incident:
    facts = {"since": "2026-01-21T09:00:00+00:00", "a_week_ago": 24}
    return Incident.objects.create(
        kind="source_silent", subject="portal-a", opened_at=NOON, last_seen_at=NOON, detail=facts
    )


@pytest.fixture
def hour() -> HourlyStatistics:
    return HourlyStatistics.objects.create(
        hour=NOON,
        source="portal-a",
        accepted=1200,
        rejected={"ZIP_NOT_66XXX": 7},
        delivered=1100,
        attempts={"delivered": 1100, "failed": 5},
        p50_s=0.4,
        p95_s=75,
    )


def test_an_incident_shows_the_problem_and_its_alerts(incident: Incident) -> None:
    Alert.objects.create(incident=incident, channel="email", is_recovery=False, sent_at=NOON)
    Alert.objects.create(incident=incident, channel="webhook", is_recovery=False)
    client = client_of("Operator")

    assert "“portal-a” has sent no lead for 3 h" in text_of(client, INCIDENTS)
    page = text_of(client, f"{INCIDENTS}{incident.pk}/change/")
    assert "A week ago, 24 leads arrived in this period." in page
    assert "start reported by e-mail: 21 Jan 2026 13:00:00 CET" in page
    assert "start reported by webhook: not sent yet" in page


def test_incidents_are_filtered_and_found_by_source(incident: Incident) -> None:
    Incident.objects.create(kind="no_beat", opened_at=NOON, last_seen_at=NOON, closed_at=NOON)
    client = client_of("Operator")

    def shown(query: str) -> list[str]:
        return [each.kind for each in client.get(f"{INCIDENTS}?{query}").context["cl"].result_list]

    assert shown("") == ["no_beat", "source_silent"]
    assert shown("state=open") == ["source_silent"]
    assert shown("kind=no_beat") == ["no_beat"]
    assert shown("q=PORTAL") == ["source_silent"]


def test_an_hour_shows_all_its_numbers(hour: HourlyStatistics) -> None:
    HourlyStatistics.objects.create(hour=NOON, accepted=1)
    client = client_of("Support")

    text = text_of(client, f"{HOURS}?source=portal-a")
    assert "21 Jan 2026 13:00 portal-a 1,200 – 7 1,100 – – 1,105 0.4 s 1 min 15 s" in text
    page = text_of(client, f"{HOURS}{hour.pk}/change/")
    assert "Rejected 7 ZIP_NOT_66XXX" in page
    assert "Attempts 1,100 delivered, 5 failed" in page
    others = text_of(client, f"{HOURS}?source=-")
    assert "21 Jan 2026 13:00 – 1 – – – – – – – –" in others
    assert "1,200" not in others


def test_both_lists_are_translated(incident: Incident, hour: HourlyStatistics) -> None:
    client = client_of("Support", language="de")

    incidents = text_of(client, INCIDENTS)
    assert "„portal-a“ hat seit 3 h keinen Lead geschickt" in incidents
    assert "Stundenzahlen" in client.get(HOURS).text


# --- the first page --------------------------------------------------------------------------------------------------


def test_the_dashboard_shows_open_incidents_that_its_own_numbers_do_not_show(incident: Incident) -> None:
    now = timezone.now()
    Incident.objects.create(kind="no_worker", opened_at=NOON, last_seen_at=NOON)
    for kind in ("worker", "beat"):
        Heartbeat.objects.create(name=kind, kind=kind, started_at=now, seen_at=now)
    cache.clear()
    client = client_of("Operator")

    banners = client.get("/admin/").context["banners"]

    assert [banner.what for banner in banners] == [
        f"“portal-a” has sent no lead for {span(now - NOON + timedelta(hours=3))}"
    ]
    assert banners[0].url == f"{INCIDENTS}{incident.pk}/change/"
