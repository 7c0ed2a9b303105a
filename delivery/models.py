"""What goes out: every exchange with the customer, written before it begins and completed once."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from leads.models import InboundLead


class SeedIndex(models.Index):
    """An index by the name that the seed gives it; Django allows 30 characters for Oracle's sake."""

    max_name_length = 63


class DeliveryAttempt(models.Model):
    """One request to the Customer API.

    The row is written before the request leaves. One without an outcome is an attempt whose worker died or is
    still at it.
    """

    id = models.AutoField(primary_key=True)
    lead = models.ForeignKey(InboundLead, on_delete=models.CASCADE, related_name="attempts", db_index=False)
    attempt_no = models.IntegerField()
    requested_at = models.DateTimeField(db_default=Now(), default=timezone.now)
    response_status = models.IntegerField(null=True, blank=True)
    response_body = models.TextField(null=True, blank=True)
    error_message = models.TextField(null=True, blank=True)
    success = models.BooleanField(default=False, db_default=False)
    created_at = models.DateTimeField(db_default=Now(), default=timezone.now)

    finished_at = models.DateTimeField(null=True, blank=True)
    duration_ms = models.IntegerField(null=True, blank=True)

    class Meta:
        db_table = "delivery_attempt"
        verbose_name = "delivery attempt"
        constraints = [
            models.CheckConstraint(condition=Q(attempt_no__gt=0), name="check_attempt_no"),
            models.CheckConstraint(
                condition=Q(response_status=None) | Q(response_status__gte=100, response_status__lt=600),
                name="check_response_status",
            ),
            models.UniqueConstraint(fields=["lead", "attempt_no"], name="idx_delivery_attempt_lead_attempt"),
        ]
        indexes = [
            models.Index(fields=["lead"], name="idx_delivery_attempt_lead_id"),
            models.Index(fields=["success"], name="idx_delivery_attempt_success"),
            SeedIndex(fields=["requested_at"], name="idx_delivery_attempt_requested_at"),
        ]

    def __str__(self) -> str:
        return f"Attempt {self.attempt_no} of lead {self.lead_id}"

    @property
    def has_outcome(self) -> bool:
        """Tell whether how the exchange ended was written down, by the gateway or with the seed's columns alone."""
        written = (self.finished_at, self.response_status, self.error_message)
        return self.success or any(value is not None for value in written)
