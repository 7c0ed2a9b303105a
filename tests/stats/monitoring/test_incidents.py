"""Incidents open after enough failures in a row and close after enough good results in a row."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from stats.models import Alert, Incident
from stats.monitoring import incidents
from stats.monitoring.checks.pipeline import IncidentKind
from stats.monitoring.checks.result import CheckResult, Verdict
from stats.monitoring.pipeline_check import claim_check
from tests.background import run_at_once
from tests.make import NOON

OPENS_AFTER = {IncidentKind.NO_WORKER: 3}
MINUTE = timedelta(minutes=1)

OK, WARNING, FAILURE, UNKNOWN = Verdict.OK, Verdict.WARNING, Verdict.FAILURE, Verdict.UNKNOWN
EMAIL, WEBHOOK = Alert.Channel.EMAIL, Alert.Channel.WEBHOOK

pytestmark = pytest.mark.django_db


class Checks:
    """Repeated runs of one check, a minute apart, with the given verdicts."""

    def __init__(self, kind: IncidentKind, subject: str = "", channels: tuple[Alert.Channel, ...] = ()) -> None:
        self.kind, self.subject, self.channels, self.now = kind, subject, channels, NOON

    def find(self, *verdicts: Verdict, **facts: object) -> None:
        for verdict in verdicts:
            self.now += MINUTE
            found = [CheckResult(self.kind, verdict, self.subject, dict(facts))]
            incidents.update(found, now=self.now, opens_after=OPENS_AFTER, channels=self.channels)


def stored() -> list[tuple[str, str, bool]]:
    """Return kind, subject and whether it is closed, of all incidents in order."""
    rows = Incident.objects.order_by("pk")
    return [(incident.kind, incident.subject, incident.closed_at is not None) for incident in rows]


def test_an_incident_lasts_until_two_good_results() -> None:
    checks = Checks(IncidentKind.LEADS_STUCK)

    checks.find(OK, FAILURE, FAILURE, leads=3)
    checks.find(FAILURE, leads=9)
    [incident] = Incident.objects.all()
    assert (incident.opened_at, incident.last_seen_at) == (NOON + 2 * MINUTE, NOON + 4 * MINUTE)
    assert incident.detail == {"leads": 9}

    checks.find(WARNING)
    assert stored() == [("leads_stuck", "", False)]
    checks.find(OK)
    assert stored() == [("leads_stuck", "", True)]
    assert Incident.objects.get().closed_at == NOON + 6 * MINUTE


def test_too_few_failures_in_a_row_open_no_incident() -> None:
    checks = Checks(IncidentKind.NO_WORKER)

    checks.find(FAILURE, FAILURE, OK, FAILURE, FAILURE)
    assert stored() == []
    checks.find(FAILURE)
    assert stored() == [("no_worker", "", False)]


def test_an_unknown_result_neither_opens_nor_closes() -> None:
    checks = Checks(IncidentKind.DELIVERIES_FAIL)

    checks.find(UNKNOWN, UNKNOWN, UNKNOWN)
    assert stored() == []
    checks.find(FAILURE, OK, FAILURE, OK, UNKNOWN, UNKNOWN)  # an intermittent failure is one incident
    assert stored() == [("deliveries_fail", "", False)]
    with pytest.raises(IntegrityError), transaction.atomic():
        Incident.objects.create(kind=IncidentKind.DELIVERIES_FAIL, opened_at=NOON, last_seen_at=NOON)
    checks.find(OK)
    assert stored() == [("deliveries_fail", "", True)]


def test_an_incident_without_results_closes() -> None:
    Checks(IncidentKind.SOURCE_SILENT, "portal").find(FAILURE)
    for minutes in (2, 3):
        incidents.update([], now=NOON + minutes * MINUTE, opens_after=OPENS_AFTER)

    assert stored() == [("source_silent", "portal", True)]


def test_a_later_failure_and_another_subject_are_new_incidents() -> None:
    Checks(IncidentKind.SOURCE_SILENT, "a").find(FAILURE, OK, OK, FAILURE)
    found = [CheckResult(IncidentKind.SOURCE_SILENT, FAILURE, subject) for subject in "ab"]
    incidents.update(found, now=NOON + 9 * MINUTE, opens_after=OPENS_AFTER)

    assert stored() == [("source_silent", "a", True), ("source_silent", "a", False), ("source_silent", "b", False)]


@pytest.mark.django_db(transaction=True)
def test_each_change_is_logged_and_alerted_once_per_channel(caplog: pytest.LogCaptureFixture) -> None:
    checks = Checks(IncidentKind.QUEUE_DEEP, channels=(EMAIL, WEBHOOK))

    checks.find(FAILURE, FAILURE, depth=2000)
    assert caplog.text.count("incident_opened") == 1
    assert "2000" in caplog.text
    checks.find(OK, OK, OK)
    assert caplog.text.count("incident_closed") == 1

    alerts = Alert.objects.order_by("pk").values_list("channel", "is_recovery")
    assert list(alerts) == [("email", False), ("webhook", False), ("email", True), ("webhook", True)]


@pytest.mark.django_db(transaction=True)
def test_one_of_several_processes_gets_the_claim() -> None:
    claim_check(NOON, after=MINUTE)
    claims: list[bool] = []

    run_at_once(*[lambda: claims.append(claim_check(NOON + MINUTE, after=MINUTE))] * 8)

    assert sorted(claims) == [False] * 7 + [True]
