"""Tells people of incidents, by e-mail and by a webhook: once when one begins, and once when it is over.

What there is to tell is in rows. Whoever checks the pipeline claims those of a channel, sends them as one message and
marks them; what could not be sent is tried again at the next check. After a crash between sending and marking it is
sent again when the claim has run out.
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
from stats.monitoring.rules import Kind
from stats.text.incidents import tell

log = get_logger(__name__)

#: How long nobody else sends what somebody is sending; longer than both channels together may take.
_LEASE = timedelta(minutes=2)

#: Nobody wants to know any more, after so long a failure of the channel itself.
_STALE_AFTER = timedelta(days=1)

#: What one message tells at most.
_MOST = 20

_CONNECT_S, _READ_S = 3, 5

#: What one step may wait for the database.
_TIMEOUT = timedelta(seconds=10)

_RUNBOOK = "docs/operations.md"


class NotSent(Exception):
    """The channel did not take the message. The text names no address and no secret."""


def channels() -> list[Alert.Channel]:
    """Return by which channels people are to be told."""
    found = []
    if settings.ALERT_EMAIL:
        found.append(Alert.Channel.EMAIL)
    if settings.ALERT_WEBHOOK_URL:
        found.append(Alert.Channel.WEBHOOK)
    return found


def send_due(*, now: datetime) -> None:
    """Send what has not been sent yet; a channel that does not take it costs its bounded wait.

    :raises django.db.Error: the database is away; it is sent later.
    """
    for channel in channels():
        with db.deadline(_TIMEOUT):
            alerts = _claim(channel, now=now)
        if not alerts:
            continue
        was_sent = deliver(channel, [(alert.incident, alert.is_over) for alert in alerts], now=now)
        with db.deadline(_TIMEOUT):
            ours = Alert.objects.filter(claim_token=alerts[0].claim_token)
            ours.update(**{"sent_at": now} if was_sent else {"claimed_until": None})


def deliver(channel: Alert.Channel, changes: Sequence[tuple[Incident, bool]], *, now: datetime) -> bool:
    """Send one message of incidents that begin, or with True are over; tell whether the channel took it."""
    with override("en"):
        try:
            _SENDERS[channel](changes, now)
        except NotSent as error:
            log.warning("alert_not_sent", channel=channel.value, reason=str(error), incidents=len(changes))
            return False
    log.info("alert_sent", channel=channel.value, incidents=len(changes))
    return True


def _claim(channel: Alert.Channel, *, now: datetime) -> list[Alert]:
    fresh = now - _STALE_AFTER
    is_fresh = Q(is_over=False, incident__opened_at__gt=fresh) | Q(is_over=True, incident__closed_at__gt=fresh)
    free = Q(claimed_until=None) | Q(claimed_until__lt=now)
    waiting = Alert.objects.filter(free, is_fresh, channel=channel, sent_at=None).order_by("pk")
    token = uuid.uuid4()
    chosen = Alert.objects.filter(free, pk__in=list(waiting.values_list("pk", flat=True)[:_MOST]), sent_at=None)
    chosen.update(claim_token=token, claimed_until=now + _LEASE)
    return list(Alert.objects.filter(claim_token=token, sent_at=None).select_related("incident").order_by("pk"))


# --- in words --------------------------------------------------------------------------------------------------------


def _headline(incident: Incident, is_over: bool, now: datetime) -> str:
    if not is_over:
        return _what(incident, now)
    lasted = span((incident.closed_at or now) - incident.opened_at)
    return f"Over after {lasted}: {_what(incident, incident.last_seen_at)}"


def _what(incident: Incident, now: datetime) -> str:
    return tell(Kind(incident.kind), incident.detail, now=now, subject=incident.subject).what


def _paragraph(incident: Incident, is_over: bool, now: datetime) -> str:
    lines = [f"{_headline(incident, is_over, now)}.", f"Since {timestamp(incident.opened_at)}."]
    if not is_over:
        lines.append(tell(Kind(incident.kind), incident.detail, now=now, subject=incident.subject).advice)
        lines.append(f"Runbook: {_RUNBOOK}#{incident.kind}")
    return "\n".join(lines)


def _title(changes: Sequence[tuple[Incident, bool]], now: datetime) -> str:
    first = _headline(*changes[0], now)
    return f"{first} (and {len(changes) - 1} more)" if len(changes) > 1 else first


def _body(changes: Sequence[tuple[Incident, bool]], now: datetime) -> str:
    return "\n\n".join(_paragraph(incident, is_over, now) for incident, is_over in changes)


# --- the channels ----------------------------------------------------------------------------------------------------


def _email(changes: Sequence[tuple[Incident, bool]], now: datetime) -> None:
    message = EmailMessage(
        subject=" ".join(f"[Lead Gateway] {_title(changes, now)}".split()),  # a header is one line
        body=f"{_body(changes, now)}\n\nSent by {socket.gethostname()}.\n",
        from_email=settings.ALERT_EMAIL_FROM,
        to=settings.ALERT_EMAIL,
    )
    try:
        message.send()
    except (SMTPException, OSError) as error:
        raise NotSent(type(error).__name__) from error


def _webhook(changes: Sequence[tuple[Incident, bool]], now: datetime) -> None:
    """Post JSON; `text` is what Slack, Mattermost and the like show."""
    body = {
        "text": f"Lead Gateway: {_body(changes, now)}",
        "incidents": [_as_json(incident, is_over) for incident, is_over in changes],
    }
    try:
        answer = requests.post(
            settings.ALERT_WEBHOOK_URL, json=body, timeout=(_CONNECT_S, _READ_S), allow_redirects=False, stream=True
        )
    except requests.RequestException as error:
        raise NotSent(type(error).__name__) from error
    answer.close()  # unread: nobody needs what it says
    if not 200 <= answer.status_code < 300:
        raise NotSent(f"HTTP {answer.status_code}")


def _as_json(incident: Incident, is_over: bool) -> dict[str, Any]:
    return {
        "kind": str(incident.kind),
        "subject": incident.subject,
        "status": "over" if is_over else "open",
        "opened_at": timestamp(incident.opened_at),
        "closed_at": timestamp(incident.closed_at) if is_over and incident.closed_at else None,
        "detail": incident.detail,
    }


_SENDERS: dict[Alert.Channel, Callable[[Sequence[tuple[Incident, bool]], datetime], None]] = {
    Alert.Channel.EMAIL: _email,
    Alert.Channel.WEBHOOK: _webhook,
}
