"""Alerts, as a real mail server and a real webhook get them: once, also when it does not work at first."""

import json
import threading
from collections.abc import Iterator
from datetime import timedelta

import environ
import pytest
from django.db import connection
from django.utils.translation import override

from stats.models import Alert, Incident
from stats.monitoring import alerts, incidents
from stats.monitoring.rules import CheckResult, Kind, Thresholds, Verdict
from tests.make import NOON
from tests.processes import free_port
from tests.stats.monitoring.receivers import Hook, Mailbox, hook, mailbox

MINUTE = timedelta(minutes=1)
LIMITS = Thresholds(opens_after={}, closes_after=1)

pytestmark = pytest.mark.django_db


@pytest.fixture
def box(settings) -> Iterator[Mailbox]:
    with mailbox() as found:
        for name, value in environ.Env.email_url_config(found.url).items():
            if value is not None:
                setattr(settings, name, value)
        settings.ALERT_EMAIL = ["ops@example.com", "night@example.com"]
        settings.ALERT_EMAIL_FROM = "gateway@example.com"
        yield found


@pytest.fixture
def webhook(settings) -> Iterator[Hook]:
    with hook() as found:
        settings.ALERT_WEBHOOK_URL = found.url
        yield found


def check(verdict: Verdict, *kinds: Kind, minute: int = 0, **facts: object) -> None:
    """Take in what a check found, and send what is to be told of it."""
    at = NOON + minute * MINUTE
    found = [CheckResult(kind, verdict, facts=dict(facts)) for kind in kinds]
    incidents.take_in(found, now=at, thresholds=LIMITS, channels=alerts.channels())
    alerts.send_due(now=at)


def test_people_are_told_once_and_again_when_it_is_over(box: Mailbox, webhook: Hook) -> None:
    for minute in range(3):
        check(Verdict.BAD, Kind.NO_WORKER, minute=minute, alive=0)

    [mail] = box.mails
    assert mail["Subject"] == "[Lead Gateway] No worker is running"
    assert (mail["From"], mail["To"]) == ("gateway@example.com", "ops@example.com, night@example.com")
    assert "docker-compose up -d worker" in mail.get_content()
    assert "docs/operations.md#no_worker" in mail.get_content()
    [post] = webhook.posts
    assert post["text"].startswith("Lead Gateway: No worker is running.\nSince 2026-01-21T12:00:00Z.")
    assert post["incidents"] == [
        {
            "kind": "no_worker",
            "subject": "",
            "status": "open",
            "opened_at": "2026-01-21T12:00:00Z",
            "closed_at": None,
            "detail": {"alive": 0},
        }
    ]

    for minute in range(3, 6):
        check(Verdict.GOOD, Kind.NO_WORKER, minute=minute)

    assert [mail["Subject"] for mail in box.mails[1:]] == [
        "[Lead Gateway] Over after 3 min: No worker is running",
    ]
    [over] = webhook.posts[1:]
    assert (over["incidents"][0]["status"], over["incidents"][0]["closed_at"]) == ("over", "2026-01-21T12:03:00Z")


def test_what_begins_together_is_one_message(box: Mailbox) -> None:
    check(Verdict.BAD, Kind.NO_WORKER, Kind.NO_BEAT, Kind.QUEUE_UNAVAILABLE)

    [mail] = box.mails
    assert mail["Subject"] == "[Lead Gateway] No worker is running (and 2 more)"
    for text in ("No worker is running", "Beat is not running", "The queue cannot be reached"):
        assert text in mail.get_content()


def test_a_channel_that_fails_is_tried_again_and_the_other_is_not(
    box: Mailbox, webhook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    box.refuses = True
    check(Verdict.BAD, Kind.NO_WORKER)
    check(Verdict.BAD, Kind.NO_WORKER, minute=1)
    assert (box.mails, len(webhook.posts)) == ([], 1)
    assert caplog.text.count("alert_not_sent") == 2

    box.refuses = False
    check(Verdict.BAD, Kind.NO_WORKER, minute=2)
    check(Verdict.BAD, Kind.NO_WORKER, minute=3)

    assert (len(box.mails), len(webhook.posts)) == (1, 1)


@pytest.mark.parametrize("status", [302, 404, 500])
def test_anything_but_a_success_is_tried_again(webhook: Hook, status: int, caplog: pytest.LogCaptureFixture) -> None:
    webhook.status = status
    check(Verdict.BAD, Kind.NO_WORKER)
    assert f"HTTP {status}" in caplog.text

    webhook.status = 204
    check(Verdict.BAD, Kind.NO_WORKER, minute=1)

    assert len(webhook.posts) == 1


def test_nobody_there_is_a_line_in_the_log_without_secrets(settings, caplog: pytest.LogCaptureFixture) -> None:
    settings.ALERT_WEBHOOK_URL = f"http://127.0.0.1:{free_port()}/services/secret-of-the-hook"
    settings.ALERT_EMAIL = ["ops@example.com"]
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()

    check(Verdict.BAD, Kind.NO_WORKER)

    assert caplog.text.count("alert_not_sent") == 2
    for secret in ("secret-of-the-hook", "ops@example.com"):
        assert secret not in caplog.text
    assert Incident.objects.get().closed_at is None


def test_what_was_over_before_it_could_be_told_is_told_in_one_message(box: Mailbox) -> None:
    box.refuses = True
    check(Verdict.BAD, Kind.NO_BEAT)
    check(Verdict.GOOD, Kind.NO_BEAT, minute=1)
    box.refuses = False

    check(Verdict.GOOD, Kind.NO_BEAT, minute=2)

    [mail] = box.mails
    assert mail["Subject"] == "[Lead Gateway] Beat is not running (and 1 more)"
    assert "Over after 1 min: Beat is not running" in mail.get_content()


def test_what_somebody_is_sending_nobody_else_sends(webhook: Hook) -> None:
    incident = Incident.objects.create(kind=Kind.NO_BEAT, opened_at=NOON, last_seen_at=NOON)
    channel = Alert.Channel.WEBHOOK
    Alert.objects.create(incident=incident, channel=channel, is_over=False, claimed_until=NOON + MINUTE)

    alerts.send_due(now=NOON)
    assert webhook.posts == []

    alerts.send_due(now=NOON + 2 * MINUTE)  # who was sending has died
    assert len(webhook.posts) == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_who_send_at_once_one_does(webhook: Hook) -> None:
    incident = Incident.objects.create(kind=Kind.NO_BEAT, opened_at=NOON, last_seen_at=NOON)
    Alert.objects.create(incident=incident, channel=Alert.Channel.WEBHOOK, is_over=False)

    def send() -> None:
        try:
            alerts.send_due(now=NOON)
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(webhook.posts) == 1


def test_after_a_day_nobody_wants_to_know(webhook: Hook) -> None:
    webhook.status = 500
    check(Verdict.BAD, Kind.NO_BEAT)
    webhook.status = 200

    check(Verdict.BAD, Kind.NO_BEAT, minute=24 * 60)

    assert webhook.posts == []


def test_with_no_channel_nobody_is_told() -> None:
    check(Verdict.BAD, Kind.NO_BEAT)

    assert Alert.objects.count() == 0


def test_alerts_are_in_english_whoever_looks(webhook: Hook) -> None:
    with override("de"):
        check(Verdict.BAD, Kind.QUEUE_DEEP, depth=12345)

    assert "12,345 leads wait for a worker" in json.dumps(webhook.posts)
