"""Stored results of monitoring: heartbeats, totals of counters, hourly statistics, incidents and alerts."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _


class ProcessKind(models.TextChoices):
    """The kinds of processes that have a heartbeat."""

    WORKER = "worker"
    BEAT = "beat"


class Heartbeat(models.Model):
    """The last heartbeat of a worker or of beat."""

    #: Such as worker@host. A new process of the same name takes the row over.
    name = models.CharField(max_length=200, primary_key=True)
    kind = models.CharField(max_length=10, choices=ProcessKind)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()

    class Meta:
        db_table = "heartbeat"

    def __str__(self) -> str:
        return self.name


class CounterTotals(models.Model):
    """The totals of the metrics' counters up to an event, and the numbers of closed leads. There is one row."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    #: The id of the last event that is part of `counts`.
    last_event_id = models.BigIntegerField(default=0)
    #: Series -> number, see `stats.monitoring.counters`. Stored because counters must not fall when retention deletes
    #: what they counted.
    counts = models.JSONField(default=dict)
    #: The newest event at `checked_at`. It is counted a while later, when no event before it can appear any more.
    newest_event_id = models.BigIntegerField(default=0)
    checked_at = models.DateTimeField(default=timezone.now)
    #: Closed status -> number of leads at the event `last_event_id`, including those that retention has deleted, and
    #: when they were last counted one by one. NULL: never.
    closed_leads = models.JSONField(null=True, blank=True)
    closed_leads_counted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "counter_totals"

    def __str__(self) -> str:
        return f"Totals up to event {self.last_event_id}"


class HourlyStatistics(models.Model):
    """What happened in one hour to the leads of one source. Kept when the leads themselves are deleted."""

    id = models.BigAutoField(primary_key=True)
    #: The start of the hour, in UTC.
    hour = models.DateTimeField()
    #: A name of SHARED_SECRET_NAMES; empty if senders need no secret.
    source = models.CharField(max_length=100, blank=True)
    accepted = models.IntegerField(default=0)
    duplicates = models.IntegerField(default=0)
    #: Reason -> number of leads.
    rejected = models.JSONField(default=dict)
    #: How often a lead entered the status. A lead that fails, is redelivered and fails again counts twice.
    delivered = models.IntegerField(default=0)
    failed = models.IntegerField(default=0)
    permanently_failed = models.IntegerField(default=0)
    #: Outcome (delivered, failed, refused) -> number of finished attempts.
    attempts = models.JSONField(default=dict)
    #: Median and 95th percentile of the seconds from accepted to delivered; NULL if nothing was delivered.
    p50_s = models.FloatField(null=True, blank=True)
    p95_s = models.FloatField(null=True, blank=True)

    class Meta:
        db_table = "hourly_statistics"
        verbose_name = _("hour")
        verbose_name_plural = _("hourly statistics")
        constraints = [models.UniqueConstraint(fields=["hour", "source"], name="hourly_statistics_once")]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:%M} {self.source}".rstrip()


class MonitoringState(models.Model):
    """The progress of monitoring. There is one row."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    #: When a process last checked the pipeline.
    checked_at = models.DateTimeField(null=True, blank=True)
    #: Failing check -> number of failures in a row, while they are too few for an incident.
    failing_checks = models.JSONField(default=dict)
    #: The end of the last hour in the hourly statistics.
    hours_counted_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "monitoring_state"

    def __str__(self) -> str:
        return "Monitoring state"


class Incident(models.Model):
    """A problem of the pipeline, from the check that opened it to the check that closed it."""

    id = models.BigAutoField(primary_key=True)
    #: An IncidentKind of stats.monitoring.checks.pipeline. No constraint, so that a new check needs no migration.
    kind = models.CharField(max_length=30)
    #: Which one, if there are several: the name of a source.
    subject = models.CharField(max_length=100, blank=True)
    opened_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    #: The facts of the last failure.
    detail = models.JSONField(default=dict)
    #: Number of good results in a row. Enough of them close the incident.
    good_checks = models.IntegerField(default=0)

    class Meta:
        db_table = "incident"
        verbose_name = _("incident")
        verbose_name_plural = _("incidents")
        constraints = [
            models.UniqueConstraint(fields=["kind", "subject"], condition=Q(closed_at=None), name="incident_open_once"),
        ]

    def __str__(self) -> str:
        return gettext("Incident {id}").format(id=self.pk)


class Alert(models.Model):
    """One message about an incident, by one channel: that it began, or that it is over."""

    class Channel(models.TextChoices):
        """How an alert is sent."""

        EMAIL = "email"
        WEBHOOK = "webhook"

    id = models.BigAutoField(primary_key=True)
    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="alerts")
    channel = models.CharField(max_length=10, choices=Channel)
    is_recovery = models.BooleanField()
    #: The process that is sending it, and until when no other process may.
    claim_token = models.UUIDField(null=True, blank=True)
    claimed_until = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "alert"
        constraints = [
            models.UniqueConstraint(fields=["incident", "channel", "is_recovery"], name="alert_once"),
        ]
        indexes = [
            # For the alerts that are not sent yet.
            models.Index(fields=["channel", "id"], name="idx_alert_waiting", condition=Q(sent_at=None)),
        ]

    def __str__(self) -> str:
        return f"Alert {self.pk}"
