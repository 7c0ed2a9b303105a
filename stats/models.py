"""Who is at work: a row for each worker and for beat, renewed by themselves. And what the metrics keep."""

from django.db import models
from django.utils import timezone


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


class Tally(models.Model):
    """What the metrics need not count anew whenever they are asked for; there is one row, the first."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    #: The id of the last event of the trail that is counted in.
    until = models.BigIntegerField(default=0)
    #: Series -> number; see `stats.totals`. Kept, as counters must not fall when retention deletes what they counted.
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
