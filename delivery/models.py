"""The tables of delivery: attempts, bulk actions and delivery control."""

from datetime import datetime

from django.db import connection, models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from leads.models import InboundLead, TimeIndex

#: Attempts without an outcome: neither the gateway nor a client of the specification's columns has stored one.
OUTCOME_UNKNOWN = Q(finished_at=None, response_status=None, error_message=None, success=False)


class DeliveryAttempt(models.Model):
    """One request to the Customer API.

    The row is stored before the request is sent and completed once. A row without an outcome means that the request is
    in progress, or that its worker stopped and the outcome is unknown.
    """

    id = models.AutoField(primary_key=True)
    lead = models.ForeignKey(InboundLead, on_delete=models.CASCADE, related_name="attempts", db_index=False)
    attempt_no = models.IntegerField()
    requested_at = models.DateTimeField(db_default=Now(), default=timezone.now)
    response_status = models.IntegerField(null=True, blank=True)
    response_body = models.TextField(null=True, blank=True)
    error_message = models.TextField(null=True, blank=True)
    #: The error as a code with parameters, see `delivery.client.DeliveryError`; NULL: a success, or stored by others.
    error = models.JSONField(null=True, blank=True)
    success = models.BooleanField(default=False, db_default=False)
    created_at = models.DateTimeField(db_default=Now(), default=timezone.now)

    finished_at = models.DateTimeField(null=True, blank=True)
    duration_ms = models.IntegerField(null=True, blank=True)

    class Meta:
        db_table = "delivery_attempt"
        verbose_name = _("delivery attempt")
        verbose_name_plural = _("delivery attempts")
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
            TimeIndex(fields=["requested_at"], name="idx_delivery_attempt_requested_at"),
            # For the few attempts without an outcome.
            models.Index(fields=["lead"], name="idx_delivery_attempt_unknown", condition=OUTCOME_UNKNOWN),
            # For unsuccessful responses by status.
            models.Index(
                fields=["response_status"],
                name="idx_delivery_attempt_refused",
                condition=Q(success=False, response_status__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return gettext("Attempt {number} of lead {id}").format(number=self.attempt_no, id=self.lead_id)

    @property
    def has_outcome(self) -> bool:
        """Whether an outcome is stored, by the gateway or in the specification's columns alone."""
        written = (self.finished_at, self.response_status, self.error_message)
        return self.success or any(value is not None for value in written)


class BulkActionKind(models.TextChoices):
    """What a bulk action does with its leads."""

    REDELIVER = "redeliver", _("Redeliver")
    REPROCESS = "reprocess", _("Reprocess")
    RESOLVE = "resolve", _("Resolve")


class BulkAction(models.Model):
    """An operator's action for many leads. The set of leads is fixed at creation and processed at a limited rate."""

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=20, choices=BulkActionKind)
    actor = models.CharField(max_length=150)
    reason = models.TextField()
    #: Description of how the leads were selected, without personal data.
    selection = models.CharField(max_length=300)
    #: Whether delivered leads are sent again.
    include_delivered = models.BooleanField(default=False)
    created_at = models.DateTimeField()
    #: Token of the form: a form that is submitted twice creates one bulk action.
    form_token = models.UUIDField(unique=True, null=True, blank=True)
    total = models.IntegerField(default=0)
    done = models.IntegerField(default=0)
    skipped = models.IntegerField(default=0)
    #: Until when a worker has claimed the bulk action.
    claimed_until = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    cancelled_at = models.DateTimeField(null=True, blank=True)
    cancelled_by = models.CharField(max_length=150, null=True, blank=True)

    class Meta:
        db_table = "bulk_action"
        verbose_name = _("bulk action")
        verbose_name_plural = _("bulk actions")
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=BulkActionKind.values), name="check_bulk_action_kind"),
        ]
        indexes = [
            # For the open bulk actions, the oldest first.
            models.Index(fields=["id"], name="idx_bulk_action_open", condition=Q(finished_at=None, cancelled_at=None)),
        ]

    def __str__(self) -> str:
        return gettext("Bulk action {id}").format(id=self.pk)

    @property
    def is_open(self) -> bool:
        """Whether leads remain to be processed."""
        return self.finished_at is None and self.cancelled_at is None

    @property
    def waiting(self) -> int:
        """The number of leads that are not processed yet."""
        return self.total - self.done - self.skipped


class BulkActionItem(models.Model):
    """One lead of a bulk action, and its outcome."""

    class Outcome(models.TextChoices):
        """Whether the action changed the lead."""

        DONE = "done", _("Done")
        SKIPPED = "skipped", _("Skipped")

    id = models.BigAutoField(primary_key=True)
    bulk_action = models.ForeignKey(BulkAction, on_delete=models.CASCADE, related_name="items", db_index=False)
    lead = models.ForeignKey(InboundLead, on_delete=models.CASCADE, related_name="+", db_index=False)
    #: NULL: not processed yet.
    outcome = models.CharField(max_length=20, choices=Outcome, null=True, blank=True)
    #: Why the lead was skipped: a value of delivery.bulk_actions.lead_actions.SkipReason.
    skip_reason = models.CharField(max_length=300, null=True, blank=True)

    class Meta:
        db_table = "bulk_action_item"
        verbose_name = _("lead of a bulk action")
        verbose_name_plural = _("leads of a bulk action")
        constraints = [
            models.UniqueConstraint(fields=["bulk_action", "lead"], name="bulk_action_item_once"),
            models.CheckConstraint(
                condition=Q(outcome=None) | Q(outcome__in=["done", "skipped"]), name="check_bulk_action_item_outcome"
            ),
        ]
        indexes = [
            models.Index(fields=["lead"], name="idx_bulk_action_item_lead"),
            # For the next lead of a bulk action.
            models.Index(fields=["bulk_action", "id"], name="idx_bulk_action_item_waiting", condition=Q(outcome=None)),
        ]

    def __str__(self) -> str:
        return gettext("Lead {id} of bulk action {bulk_action}").format(
            id=self.lead_id, bulk_action=self.bulk_action_id
        )


#: SQL condition: delivery is paused, the circuit breaker is open or has counted failures, or requests have to wait.
#: When it is false a lead can be sent without locking the row.
RESTRICTIONS_EXIST = """EXISTS (
    SELECT 1 FROM delivery_control
    WHERE paused_at IS NOT NULL OR circuit_opened_at IS NOT NULL OR failures > 0 OR next_send_at > CURRENT_TIMESTAMP
)"""


class DeliveryControlManager(models.Manager["DeliveryControl"]):
    """Access to the one row."""

    def current(self) -> "DeliveryControl":
        """Return the row, or an unsaved one without restrictions if there is none yet."""
        return self.first() or DeliveryControl()

    def locked(self) -> "DeliveryControl":
        """Return the row, locked until the end of the transaction.

        A transaction that also locks a lead's row locks this row first.
        """
        if connection.vendor == "postgresql":
            # A frozen process would block all workers: PostgreSQL ends its transaction after some seconds. On SQLite
            # the lock belongs to processes of one host.
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL idle_in_transaction_session_timeout = '3s'")
        return self.select_for_update().get_or_create(pk=1)[0]


class DeliveryControl(models.Model):
    """The state that all workers share: pause, circuit breaker and rate limit. One row; see `delivery.control`."""

    id = models.SmallIntegerField(primary_key=True, default=1)

    paused_at = models.DateTimeField(null=True, blank=True)
    paused_by = models.CharField(max_length=150, null=True, blank=True)
    pause_reason = models.TextField(null=True, blank=True)

    #: Consecutive failures of the customer's infrastructure, and the ids of some of the leads that had them.
    failures = models.IntegerField(default=0)
    failed_leads = models.JSONField(default=list, blank=True)
    #: When the circuit breaker opened; NULL: the customer counts as available.
    circuit_opened_at = models.DateTimeField(null=True, blank=True)
    #: Probe requests since then, and when the next one may be sent.
    probes = models.IntegerField(default=0)
    next_probe_at = models.DateTimeField(null=True, blank=True)

    #: When the next request may be sent, by CUSTOMER_API_RATE_LIMIT or by the customer's Retry-After.
    next_send_at = models.DateTimeField(null=True, blank=True)

    objects = DeliveryControlManager()

    class Meta:
        db_table = "delivery_control"
        verbose_name = _("delivery control")
        verbose_name_plural = _("delivery control")
        constraints = [models.CheckConstraint(condition=Q(id=1), name="check_delivery_control_is_one")]

    def __str__(self) -> str:
        return "Delivery control"

    @property
    def is_blocked(self) -> bool:
        """Whether delivery is paused or the circuit breaker is open."""
        return self.paused_at is not None or self.circuit_opened_at is not None

    def circuit(self, now: datetime) -> str:
        """Return the circuit breaker's state: `closed`, `open`, or `half_open` when a probe may be sent."""
        if self.circuit_opened_at is None or self.next_probe_at is None:
            return "closed"
        return "half_open" if self.next_probe_at <= now else "open"
