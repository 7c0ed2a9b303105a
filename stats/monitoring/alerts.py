"""Sends alerts of incidents by e-mail and to a webhook: one when an incident begins, one when it is over.

Alerts are rows. The process that checks the pipeline claims the rows of a channel, sends them as one message and marks
them as sent. If the channel fails, the next check tries again. If the process crashes between sending and marking, the
message is sent again after the claim has expired.
"""

import socket
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from smtplib import SMTPException
from typing import Any

import requests
from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import Q
from django.utils.translation import override

from leadgateway import db
from leadgateway.logging import get_logger
from leadgateway.time_format import span, timestamp
from stats.models import Alert, Incident
from stats.text.incidents import describe_incident

log = get_logger(__name__)

#: An incident, and whether the message is about its end.
Change = tuple[Incident, bool]

#: How long a claim lasts; longer than both channels together may take.
_CLAIM_DURATION = timedelta(minutes=2)

#: An alert that could not be sent for this long is out of date.
_OUTDATED_AFTER = timedelta(days=1)

#: Maximum number of alerts in one message.
_MAX_ALERTS = 20

_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 3, 5

#: How long one step may wait for the database.
_DATABASE_TIMEOUT = timedelta(seconds=10)

_RUNBOOK = "docs/operations.md"


class NotSent(Exception):
    """The channel did not accept the message. The text contains no address and no secret."""


def configured_channels() -> list[Alert.Channel]:
    """Return the channels that the settings configure."""
    channels = []
    if settings.ALERT_EMAIL:
        channels.append(Alert.Channel.EMAIL)
    if settings.ALERT_WEBHOOK_URL:
        channels.append(Alert.Channel.WEBHOOK)
    return channels


def send_due(*, now: datetime) -> None:
    """Send the alerts that are not sent yet. A channel that does not answer costs its time-out.

    :raises django.db.Error: the database is unavailable; the next check sends them.
    """
    for channel in configured_channels():
        with db.deadline(_DATABASE_TIMEOUT):
            alerts = _claim(channel, now=now)
        if not alerts:
            continue
        was_sent = send(channel, [(alert.incident, alert.is_recovery) for alert in alerts], now=now)
        with db.deadline(_DATABASE_TIMEOUT):
            claimed = Alert.objects.filter(claim_token=alerts[0].claim_token)
            claimed.update(**{"sent_at": now} if was_sent else {"claimed_until": None})


def send(channel: Alert.Channel, changes: Sequence[Change], *, now: datetime) -> bool:
    """Send one message about incidents that began or ended; return whether the channel accepted it."""
    with override("en"):
        try:
            _SENDERS[channel](changes, now)
        except NotSent as error:
            log.warning("alert_not_sent", channel=channel.value, reason=str(error), incidents=len(changes))
            return False
    log.info("alert_sent", channel=channel.value, incidents=len(changes))
    return True


def _claim(channel: Alert.Channel, *, now: datetime) -> list[Alert]:
    oldest = now - _OUTDATED_AFTER
    is_current = Q(is_recovery=False, incident__opened_at__gt=oldest) | Q(
        is_recovery=True, incident__closed_at__gt=oldest
    )
    unclaimed = Q(claimed_until=None) | Q(claimed_until__lt=now)
    waiting = Alert.objects.filter(unclaimed, is_current, channel=channel, sent_at=None).order_by("pk")
    token = uuid.uuid4()
    next_ones = list(waiting.values_list("pk", flat=True)[:_MAX_ALERTS])
    # Again with `unclaimed`, because another process may have claimed some of them since.
    claimable = Alert.objects.filter(unclaimed, pk__in=next_ones, sent_at=None)
    claimable.update(claim_token=token, claimed_until=now + _CLAIM_DURATION)
    return list(Alert.objects.filter(claim_token=token, sent_at=None).select_related("incident").order_by("pk"))


# --- texts -----------------------------------------------------------------------------------------------------------


def _headline(incident: Incident, is_recovery: bool, now: datetime) -> str:
    if not is_recovery:
        return describe_incident(incident, now=now).problem
    lasted = span((incident.closed_at or now) - incident.opened_at)
    return f"Over after {lasted}: {describe_incident(incident, now=incident.last_seen_at).problem}"


def _paragraph(incident: Incident, is_recovery: bool, now: datetime) -> str:
    lines = [f"{_headline(incident, is_recovery, now)}.", f"Since {timestamp(incident.opened_at)}."]
    if not is_recovery:
        lines.append(describe_incident(incident, now=now).remedy)
        lines.append(f"Runbook: {_RUNBOOK}#{incident.kind}")
    return "\n".join(lines)


def _title(changes: Sequence[Change], now: datetime) -> str:
    first = _headline(*changes[0], now)
    return f"{first} (and {len(changes) - 1} more)" if len(changes) > 1 else first


def _body(changes: Sequence[Change], now: datetime) -> str:
    return "\n\n".join(_paragraph(incident, is_recovery, now) for incident, is_recovery in changes)


# --- channels --------------------------------------------------------------------------------------------------------


def _send_email(changes: Sequence[Change], now: datetime) -> None:
    message = EmailMessage(
        subject=" ".join(f"[Lead Gateway] {_title(changes, now)}".split()),  # a header must not contain line breaks
        body=f"{_body(changes, now)}\n\nSent by {socket.gethostname()}.\n",
        from_email=settings.ALERT_EMAIL_FROM,
        to=settings.ALERT_EMAIL,
    )
    try:
        message.send()
    except (SMTPException, OSError) as error:
        raise NotSent(type(error).__name__) from error


def _post_to_webhook(changes: Sequence[Change], now: datetime) -> None:
    """Post JSON. Slack, Mattermost and similar services show `text`."""
    body = {
        "text": f"Lead Gateway: {_body(changes, now)}",
        "incidents": [_as_json(incident, is_recovery) for incident, is_recovery in changes],
    }
    try:
        response = requests.post(
            settings.ALERT_WEBHOOK_URL,
            json=body,
            timeout=(_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S),
            allow_redirects=False,
            stream=True,
        )
    except requests.RequestException as error:
        raise NotSent(type(error).__name__) from error
    response.close()  # without reading the body, which is not needed
    if not 200 <= response.status_code < 300:
        raise NotSent(f"HTTP {response.status_code}")


def _as_json(incident: Incident, is_recovery: bool) -> dict[str, Any]:
    return {
        "kind": str(incident.kind),
        "subject": incident.subject,
        "status": "over" if is_recovery else "open",
        "opened_at": timestamp(incident.opened_at),
        "closed_at": timestamp(incident.closed_at) if is_recovery and incident.closed_at else None,
        "detail": incident.detail,
    }


_SENDERS: dict[Alert.Channel, Callable[[Sequence[Change], datetime], None]] = {
    Alert.Channel.EMAIL: _send_email,
    Alert.Channel.WEBHOOK: _post_to_webhook,
}
