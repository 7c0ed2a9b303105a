"""What goes out: every exchange with the customer, written before it begins and completed once."""

from datetime import datetime

from django.db import connection, models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from leads.models import InboundLead


class LongNamedIndex(models.Index):
    """An index by the name that the seed gives it; Django allows 30 characters for Oracle's sake."""

    max_name_length = 63


#: Nobody has written down how the attempt ended: not the gateway, and nobody with the seed's columns alone.
OUTCOME_UNKNOWN = Q(finished_at=None, response_status=None, error_message=None, success=False)


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
            LongNamedIndex(fields=["requested_at"], name="idx_delivery_attempt_requested_at"),
            # For the few attempts that nobody knows the outcome of.
            models.Index(fields=["lead"], name="idx_delivery_attempt_unknown", condition=OUTCOME_UNKNOWN),
            # For the customer's answers that were no success, by status.
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
        """Tell whether how the exchange ended was written down, by the gateway or with the seed's columns alone."""
        written = (self.finished_at, self.response_status, self.error_message)
        return self.success or any(value is not None for value in written)


class BulkActionKind(models.TextChoices):
    """What an operator may order for leads."""

    REDELIVER = "redeliver", _("Redeliver")
    REPROCESS = "reprocess", _("Reprocess")
    RESOLVE = "resolve", _("Mark as settled")


class BulkAction(models.Model):
    """An operator's order for a set of leads, which is fixed when it is placed and worked off at a bounded pace."""

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=20, choices=BulkActionKind)
    actor = models.CharField(max_length=150)
    reason = models.TextField()
    #: How the leads were chosen, in words without personal data.
    selection = models.CharField(max_length=300)
    #: Whether leads that the customer has got already are sent again.
    include_delivered = models.BooleanField(default=False)
    created_at = models.DateTimeField()
    #: Of the form that placed it: a form that is sent twice places one order.
    form_token = models.UUIDField(unique=True, null=True, blank=True)
    total = models.IntegerField(default=0)
    done = models.IntegerField(default=0)
    skipped = models.IntegerField(default=0)
    #: Until when nobody else works on it.
    claimed_until = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    cancelled_at = models.DateTimeField(null=True, blank=True)
    cancelled_by = models.CharField(max_length=150, null=True, blank=True)

    class Meta:
        db_table = "bulk_action"
        verbose_name = _("order")
        verbose_name_plural = _("orders")
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=BulkActionKind.values), name="check_bulk_action_kind"),
        ]
        indexes = [
            # For the orders that are still being carried out, the oldest first.
            models.Index(fields=["id"], name="idx_bulk_action_open", condition=Q(finished_at=None, cancelled_at=None)),
        ]

    def __str__(self) -> str:
        return gettext("Order {id}").format(id=self.pk)

    @property
    def is_open(self) -> bool:
        """Tell whether there is still something to be done."""
        return self.finished_at is None and self.cancelled_at is None

    @property
    def waiting(self) -> int:
        """Return how many leads have no outcome yet."""
        return self.total - self.done - self.skipped


class BulkActionItem(models.Model):
    """One lead of an order, and what became of it."""

    class Outcome(models.TextChoices):
        """How it went."""

        DONE = "done", _("Done")
        SKIPPED = "skipped", _("Skipped")

    id = models.BigAutoField(primary_key=True)
    bulk_action = models.ForeignKey(BulkAction, on_delete=models.CASCADE, related_name="items", db_index=False)
    lead = models.ForeignKey(InboundLead, on_delete=models.CASCADE, related_name="+", db_index=False)
    #: NULL: its turn has not come yet.
    outcome = models.CharField(max_length=20, choices=Outcome, null=True, blank=True)
    #: Why it was refused: a value of delivery.bulk_actions.lead_actions.SkipReason.
    skip_reason = models.CharField(max_length=300, null=True, blank=True)

    class Meta:
        db_table = "bulk_action_item"
        verbose_name = _("lead of an order")
        verbose_name_plural = _("leads of an order")
        constraints = [
            models.UniqueConstraint(fields=["bulk_action", "lead"], name="bulk_action_item_once"),
            models.CheckConstraint(
                condition=Q(outcome=None) | Q(outcome__in=["done", "skipped"]), name="check_bulk_action_item_outcome"
            ),
        ]
        indexes = [
            models.Index(fields=["lead"], name="idx_bulk_action_item_lead"),
            # For the next lead of an order.
            models.Index(fields=["bulk_action", "id"], name="idx_bulk_action_item_waiting", condition=Q(outcome=None)),
        ]

    def __str__(self) -> str:
        return gettext("Lead {id} of order {order}").format(id=self.lead_id, order=self.bulk_action_id)


class DeliveryControlManager(models.Manager["DeliveryControl"]):
    """The ways to the one row."""

    def is_unrestricted(self) -> bool:
        """Tell whether nothing is the matter: nothing held, down or failing, and no pause.

        In plain SQL, since every lead asks twice, and the ORM would take a millisecond of a worker's CPU for that.
        """
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT 1 FROM delivery_control WHERE paused_at IS NOT NULL OR circuit_opened_at IS NOT NULL OR failures > 0"
                " OR next_send_at > CURRENT_TIMESTAMP"
            )
            return cursor.fetchone() is None

    def current(self) -> "DeliveryControl":
        """Return the gate as it is, open when nobody has ever touched it."""
        return self.first() or DeliveryControl()

    def locked(self) -> "DeliveryControl":
        """Return the gate, which nobody else can change until the end of this transaction.

        Whoever may meet somebody else at a lead takes it before the lead's row. A process that is frozen with it must
        not keep all others waiting: on PostgreSQL the database takes it away after some seconds. (SQLite's lock belongs
        to processes of one host, which end together.)
        """
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL idle_in_transaction_session_timeout = '3s'")
        return self.select_for_update().get_or_create(pk=1)[0]


class DeliveryControl(models.Model):
    """What all workers share on the way out: held or not, the circuit, the pace. One row; see delivery/control/permission.py."""

    id = models.SmallIntegerField(primary_key=True, default=1)

    paused_at = models.DateTimeField(null=True, blank=True)
    paused_by = models.CharField(max_length=150, null=True, blank=True)
    pause_reason = models.TextField(null=True, blank=True)

    #: Failures of the customer's infrastructure since it last answered, and some of the leads that had them.
    failures = models.IntegerField(default=0)
    failed_leads = models.JSONField(default=list, blank=True)
    #: Since when the customer is taken for down.
    circuit_opened_at = models.DateTimeField(null=True, blank=True)
    #: Requests that tried since then whether it is back, and when the next one may.
    probes = models.IntegerField(default=0)
    next_probe_at = models.DateTimeField(null=True, blank=True)

    #: Before this no request leaves: the pace of CUSTOMER_API_RATE_LIMIT, or a pause that the customer asked for.
    next_send_at = models.DateTimeField(null=True, blank=True)

    objects = DeliveryControlManager()

    class Meta:
        db_table = "delivery_control"
        verbose_name = _("delivery gate")
        verbose_name_plural = _("delivery gate")
        constraints = [models.CheckConstraint(condition=Q(id=1), name="check_delivery_control_is_one")]

    def __str__(self) -> str:
        return "The delivery gate"

    @property
    def is_blocked(self) -> bool:
        """Tell whether leads wait, however long: somebody holds delivery, or the customer is down."""
        return self.paused_at is not None or self.circuit_opened_at is not None

    def circuit(self, now: datetime) -> str:
        """Return `closed`, `open`, or `half_open` when the next lead may try whether the customer is back."""
        if self.circuit_opened_at is None or self.next_probe_at is None:
            return "closed"
        return "half_open" if self.next_probe_at <= now else "open"
