"""Who is at work: a row for each worker and for beat, renewed by themselves."""

from django.db import models


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
