"""Who is at work: a row for each worker and for beat, renewed by themselves. What the metrics keep, what was counted
hour by hour, and what went wrong.
"""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from stats.monitoring.rules import Kind


class Heartbeat(models.Model):
    """When a process last said that it lives."""

    class Kind(models.TextChoices):
        """What the process does."""

        WORKER = "worker"
        BEAT = "beat"

    #: Such as worker@host; its next run takes the row over.
    name = models.CharField(max_length=200, primary_key=True)
    kind = models.CharField(max_length=10, choices=Kind)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()

    class Meta:
        db_table = "heartbeat"

    def __str__(self) -> str:
        return self.name


class CounterTotals(models.Model):
    """What the metrics need not count anew whenever they are asked for; there is one row, the first."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    #: The id of the last event of the trail that is counted in.
    until = models.BigIntegerField(default=0)
    #: Series -> number; see `stats.monitoring.counters`. Kept, as counters must not fall when retention deletes what they counted.
    counted = models.JSONField(default=dict)
    #: The newest event when somebody looked last; once that is some time ago, it is counted in.
    newest = models.BigIntegerField(default=0)
    looked_at = models.DateTimeField(default=timezone.now)
    #: Status -> number of leads, of the statuses that only a worker or an operator leads into.
    closed = models.JSONField(default=dict)

    class Meta:
        db_table = "tally"

    def __str__(self) -> str:
        return f"The trail up to event {self.until}"


class HourlyStatistics(models.Model):
    """What happened in an hour to the leads of a source. Kept when the leads themselves are deleted."""

    id = models.BigAutoField(primary_key=True)
    #: When it began, by UTC.
    hour = models.DateTimeField()
    #: A name of SHARED_SECRET_NAMES; empty: nobody had to say.
    source = models.CharField(max_length=100, blank=True)
    accepted = models.IntegerField(default=0)
    duplicates = models.IntegerField(default=0)
    #: Reason -> leads.
    rejected = models.JSONField(default=dict)
    #: How often a lead came into the status; a lead that fails, is redelivered and fails again counts twice.
    delivered = models.IntegerField(default=0)
    failed = models.IntegerField(default=0)
    permanently_failed = models.IntegerField(default=0)
    #: Outcome (delivered, failed, refused) -> attempts that ended.
    attempts = models.JSONField(default=dict)
    #: Seconds from accepted to delivered, for half of those delivered and for 95 % of them; NULL: there was none.
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
    """Where the watch stands; there is one row, the first."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    #: When somebody last checked the pipeline.
    checked_at = models.DateTimeField(null=True, blank=True)
    #: What was found bad, but not often enough to be an incident -> in how many checks in a row.
    suspected = models.JSONField(default=dict)
    #: Up to when hours are counted.
    counted_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "watch"

    def __str__(self) -> str:
        return "The watch"


class Incident(models.Model):
    """Something that is wrong with the pipeline, or was: from the check that found it to the one that found it over."""

    id = models.BigAutoField(primary_key=True)
    #: A value of stats.monitoring.rules.Kind.
    kind = models.CharField(max_length=30)
    #: What exactly, when there are several: the name of a source.
    subject = models.CharField(max_length=100, blank=True)
    opened_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    #: The figures when it was last seen.
    detail = models.JSONField(default=dict)
    #: Checks in a row that found nothing; enough of them close it.
    good_checks = models.IntegerField(default=0)

    class Meta:
        db_table = "incident"
        verbose_name = _("incident")
        verbose_name_plural = _("incidents")
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=[kind.value for kind in Kind]), name="check_incident_kind"),
            models.UniqueConstraint(fields=["kind", "subject"], condition=Q(closed_at=None), name="incident_open_once"),
        ]

    def __str__(self) -> str:
        return gettext("Incident {id}").format(id=self.pk)


class Alert(models.Model):
    """One telling of an incident, by one channel: that it began, or that it is over."""

    class Channel(models.TextChoices):
        """How people are told."""

        EMAIL = "email"
        WEBHOOK = "webhook"

    id = models.BigAutoField(primary_key=True)
    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="alerts")
    channel = models.CharField(max_length=10, choices=Channel)
    is_over = models.BooleanField()
    #: Who sends it, and until when nobody else may.
    claim_token = models.UUIDField(null=True, blank=True)
    claimed_until = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "alert"
        constraints = [
            models.UniqueConstraint(fields=["incident", "channel", "is_over"], name="alert_once"),
        ]
        indexes = [
            # For those that are still to be sent.
            models.Index(fields=["channel", "id"], name="idx_alert_waiting", condition=Q(sent_at=None)),
        ]

    def __str__(self) -> str:
        return f"Alert {self.pk}"
