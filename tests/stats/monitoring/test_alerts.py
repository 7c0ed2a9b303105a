"""Alerts, as a real mail server and a real webhook receive them: once, even if the first try fails."""

import json
from collections.abc import Iterator
from datetime import timedelta

import environ
import pytest
from django.utils.translation import override

from stats.models import Alert, Incident
from stats.monitoring import alerts, incidents
from stats.monitoring.checks.pipeline import IncidentKind
from stats.monitoring.checks.result import CheckResult, Verdict
from tests.background import run_at_once
from tests.make import NOON
from tests.processes import free_port
from tests.stats.monitoring.receivers import Hook, Mailbox, hook, mailbox

MINUTE = timedelta(minutes=1)

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


def check(verdict: Verdict, *kinds: IncidentKind, minute: int = 0, **facts: object) -> None:
    """Update the incidents by the results of a check, and send the alerts."""
    now = NOON + minute * MINUTE
    found = [CheckResult(kind, verdict, facts=dict(facts)) for kind in kinds]
    incidents.update(found, now=now, channels=alerts.configured_channels(), opens_after={}, closes_after=1)
    alerts.send_due(now=now)


def test_an_incident_is_alerted_once_and_its_end_once(box: Mailbox, webhook: Hook) -> None:
    for minute in range(3):
        check(Verdict.FAILURE, IncidentKind.NO_WORKER, minute=minute, running=0)

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
            "detail": {"running": 0},
        }
    ]

    for minute in range(3, 6):
        check(Verdict.OK, IncidentKind.NO_WORKER, minute=minute)

    assert [mail["Subject"] for mail in box.mails[1:]] == ["[Lead Gateway] Over after 3 min: No worker is running"]
    [over] = webhook.posts[1:]
    assert (over["incidents"][0]["status"], over["incidents"][0]["closed_at"]) == ("over", "2026-01-21T12:03:00Z")


def test_only_the_channel_that_failed_is_tried_again(
    box: Mailbox, webhook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    box.refuses = True
    check(Verdict.FAILURE, IncidentKind.NO_WORKER)
    check(Verdict.FAILURE, IncidentKind.NO_WORKER, minute=1)
    assert (box.mails, len(webhook.posts)) == ([], 1)
    assert caplog.text.count("alert_not_sent") == 2

    box.refuses = False
    check(Verdict.FAILURE, IncidentKind.NO_WORKER, minute=2)
    check(Verdict.FAILURE, IncidentKind.NO_WORKER, minute=3)

    assert (len(box.mails), len(webhook.posts)) == (1, 1)


@pytest.mark.parametrize("status", [302, 500])
def test_any_response_but_a_success_is_tried_again(
    webhook: Hook, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    webhook.status = status
    check(Verdict.FAILURE, IncidentKind.NO_WORKER)
    assert f"HTTP {status}" in caplog.text

    webhook.status = 204
    check(Verdict.FAILURE, IncidentKind.NO_WORKER, minute=1)

    assert len(webhook.posts) == 1


def test_an_unreachable_channel_is_logged_without_secrets(settings, caplog: pytest.LogCaptureFixture) -> None:
    assert alerts.configured_channels() == []
    settings.ALERT_WEBHOOK_URL = f"http://127.0.0.1:{free_port()}/services/secret-of-the-hook"
    settings.ALERT_EMAIL = ["ops@example.com"]
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()

    check(Verdict.FAILURE, IncidentKind.NO_WORKER)

    assert caplog.text.count("alert_not_sent") == 2
    for secret in ("secret-of-the-hook", "ops@example.com"):
        assert secret not in caplog.text
    assert Incident.objects.get().closed_at is None


def test_alerts_that_wait_are_one_message(box: Mailbox) -> None:
    box.refuses = True
    check(Verdict.FAILURE, IncidentKind.NO_BEAT, IncidentKind.QUEUE_UNAVAILABLE)
    check(Verdict.OK, IncidentKind.NO_BEAT, minute=1)
    box.refuses = False

    check(Verdict.OK, IncidentKind.NO_BEAT, minute=2)

    [mail] = box.mails
    assert mail["Subject"] == "[Lead Gateway] Beat is not running (and 3 more)"
    for text in ("Over after 1 min: Beat is not running", "The queue cannot be reached"):
        assert text in mail.get_content()


@pytest.mark.django_db(transaction=True)
def test_one_of_several_processes_sends_after_an_expired_claim(webhook: Hook) -> None:
    incident = Incident.objects.create(kind=IncidentKind.NO_BEAT, opened_at=NOON, last_seen_at=NOON)
    channel = Alert.Channel.WEBHOOK
    Alert.objects.create(incident=incident, channel=channel, is_recovery=False, claimed_until=NOON + MINUTE)
    alerts.send_due(now=NOON)
    assert webhook.posts == []

    run_at_once(*[lambda: alerts.send_due(now=NOON + 2 * MINUTE)] * 6)

    assert len(webhook.posts) == 1


def test_an_alert_is_dropped_after_a_day(webhook: Hook) -> None:
    webhook.status = 500
    check(Verdict.FAILURE, IncidentKind.NO_BEAT)
    webhook.status = 200

    check(Verdict.FAILURE, IncidentKind.NO_BEAT, minute=24 * 60)

    assert webhook.posts == []


def test_alerts_are_in_english_in_any_language(webhook: Hook) -> None:
    with override("de"):
        check(Verdict.FAILURE, IncidentKind.QUEUE_DEEP, depth=12345)

    assert "12,345 leads wait for a worker" in json.dumps(webhook.posts)
