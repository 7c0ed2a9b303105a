"""Incidents open once, when something was found bad often enough, and close when it was found well often enough."""

import threading
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from stats.models import Alert, Incident
from stats.monitoring import incidents
from stats.monitoring.pipeline_check import _take_turn
from stats.monitoring.rules import CheckResult, Kind, Thresholds, Verdict
from tests.make import NOON

LIMITS = Thresholds(opens_after={Kind.NO_WORKER: 3}, closes_after=2)
MINUTE = timedelta(minutes=1)

GOOD, BAD, UNKNOWN = Verdict.GOOD, Verdict.BAD, Verdict.UNKNOWN
EMAIL, WEBHOOK = Alert.Channel.EMAIL, Alert.Channel.WEBHOOK


class Checks:
    """A row of checks, a minute apart, that find the given verdicts of one thing."""

    def __init__(self, kind: Kind, subject: str = "", channels: tuple[Alert.Channel, ...] = ()) -> None:
        self.kind, self.subject, self.channels, self.at = kind, subject, channels, NOON

    def find(self, *verdicts: Verdict, **facts: object) -> None:
        for verdict in verdicts:
            self.at += MINUTE
            found = [CheckResult(self.kind, verdict, self.subject, dict(facts))]
            incidents.take_in(found, now=self.at, thresholds=LIMITS, channels=self.channels)


def told() -> list[tuple[str, str, bool]]:
    """Return kind, subject and whether it is over, of all incidents in order."""
    rows = Incident.objects.order_by("pk")
    return [(incident.kind, incident.subject, incident.closed_at is not None) for incident in rows]


@pytest.mark.django_db
def test_what_is_bad_is_one_incident_until_it_is_well_twice() -> None:
    checks = Checks(Kind.LEADS_STUCK)

    checks.find(GOOD, BAD, BAD, leads=3)
    checks.find(BAD, leads=9)
    [incident] = Incident.objects.all()
    assert (incident.opened_at, incident.last_seen_at) == (NOON + 2 * MINUTE, NOON + 4 * MINUTE)
    assert incident.detail == {"leads": 9}

    checks.find(GOOD)
    assert told() == [("leads_stuck", "", False)]
    checks.find(GOOD)
    assert told() == [("leads_stuck", "", True)]
    assert Incident.objects.get().closed_at == NOON + 6 * MINUTE


@pytest.mark.django_db
def test_what_comes_and_goes_is_one_incident() -> None:
    Checks(Kind.LEADS_STUCK).find(BAD, GOOD, BAD, GOOD, BAD, GOOD)

    assert told() == [("leads_stuck", "", False)]


@pytest.mark.django_db
def test_what_has_to_be_found_in_a_row_is_no_incident_before() -> None:
    checks = Checks(Kind.NO_WORKER)

    checks.find(BAD, BAD, GOOD, BAD, BAD)
    assert told() == []
    checks.find(BAD)
    assert told() == [("no_worker", "", False)]


@pytest.mark.django_db
def test_what_cannot_be_told_neither_opens_nor_closes() -> None:
    checks = Checks(Kind.DELIVERIES_FAIL)

    checks.find(UNKNOWN, UNKNOWN, UNKNOWN)
    assert told() == []
    checks.find(BAD, GOOD, UNKNOWN, UNKNOWN)
    assert told() == [("deliveries_fail", "", False)]
    checks.find(GOOD)
    assert told() == [("deliveries_fail", "", True)]


@pytest.mark.django_db
def test_what_is_judged_no_more_has_gone() -> None:
    Checks(Kind.SOURCE_SILENT, "portal").find(BAD)
    for minutes in (2, 3):
        incidents.take_in([], now=NOON + minutes * MINUTE, thresholds=LIMITS)

    assert told() == [("source_silent", "portal", True)]


@pytest.mark.django_db
def test_after_its_end_it_is_a_new_one_and_another_subject_is_another() -> None:
    Checks(Kind.SOURCE_SILENT, "a").find(BAD, GOOD, GOOD, BAD)
    found = [CheckResult(Kind.SOURCE_SILENT, BAD, subject) for subject in "ab"]
    incidents.take_in(found, now=NOON + 9 * MINUTE, thresholds=LIMITS)

    assert told() == [("source_silent", "a", True), ("source_silent", "a", False), ("source_silent", "b", False)]


@pytest.mark.django_db
def test_the_database_refuses_a_second_open_one() -> None:
    Checks(Kind.NO_BEAT).find(BAD)

    with pytest.raises(IntegrityError), transaction.atomic():
        Incident.objects.create(kind=Kind.NO_BEAT, opened_at=NOON, last_seen_at=NOON)


@pytest.mark.django_db(transaction=True)
def test_beginning_and_end_are_logged_and_told_once_by_each_channel(caplog: pytest.LogCaptureFixture) -> None:
    checks = Checks(Kind.QUEUE_DEEP, channels=(EMAIL, WEBHOOK))

    checks.find(BAD, BAD, depth=2000)
    assert caplog.text.count("incident_opened") == 1
    assert "2000" in caplog.text
    checks.find(GOOD, GOOD, GOOD)
    assert caplog.text.count("incident_closed") == 1

    alerts = Alert.objects.order_by("pk").values_list("channel", "is_over")
    assert list(alerts) == [("email", False), ("webhook", False), ("email", True), ("webhook", True)]


@pytest.mark.django_db(transaction=True)
def test_of_many_who_come_at_once_one_has_the_turn() -> None:
    _take_turn(NOON, after=MINUTE)
    turns: list[bool] = []

    def come() -> None:
        try:
            turns.append(_take_turn(NOON + MINUTE, after=MINUTE))
        finally:
            connection.close()

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(turns) == [False] * 7 + [True]
