"""What comes in, and the trail of everything that happened to it.

The lead's row is the truth: its status, what is due and when, and who works on it. Every column has its default
in the database, so that a plain INSERT makes a lead which the sweep then finds.
"""

from datetime import datetime
from typing import Any, Self

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _


class RandomUUID(models.Func):
    """A random UUID made by the database, in the form in which Django stores it there."""

    template = "gen_random_uuid()"
    output_field = models.UUIDField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="(lower(hex(randomblob(16))))", **context)


class Words(models.Func):
    """The words of a text in the form in which PostgreSQL finds them; on SQLite, which has none, the text itself.

    Names are written with hyphens and dots as well as with spaces.
    """

    template = "%(expressions)s"
    arity = 1
    output_field = models.TextField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "to_tsvector('simple'::regconfig, translate(%(expressions)s, '-./@_''', '      '))"
        return self.as_sql(compiler, connection, template=template, **context)


class WordIndex(models.Index):
    """An index of `Words`: on PostgreSQL from word to rows, on SQLite a short table to read from end to end."""

    def create_sql(self, model: Any, schema_editor: Any, using: str = "", **kwargs: Any) -> Any:
        if schema_editor.connection.vendor == "postgresql":
            using = " USING gin"
        return super().create_sql(model, schema_editor, using=using, **kwargs)


class LeadStatus(models.TextChoices):
    """The seed's six states."""

    RECEIVED = "RECEIVED", _("Received")
    REJECTED = "REJECTED", _("Rejected")
    READY = "READY", _("Ready")
    DELIVERED = "DELIVERED", _("Delivered")
    FAILED = "FAILED", _("Failed")
    PERMANENTLY_FAILED = "PERMANENTLY_FAILED", _("Permanently failed")


#: What somebody has to look at: nothing happens to it by itself, and nobody has said that it is settled.
NEEDS_ATTENTION = Q(resolved_at=None) & (
    Q(status=LeadStatus.PERMANENTLY_FAILED) | Q(status=LeadStatus.FAILED, next_attempt_at=None)
)

#: The states in which a lead may be due. The others are left by an operator only.
OPEN_STATUSES = (LeadStatus.RECEIVED, LeadStatus.READY, LeadStatus.FAILED)


class LeadQuerySet(models.QuerySet["InboundLead"]):
    """Questions to ask of leads."""

    def unclaimed(self, now: datetime) -> Self:
        """Leads under way that nobody works on at `at`: never taken, given back, or their lease has run out."""
        return self.filter(Q(claimed_until=None) | Q(claimed_until__lt=now), status__in=OPEN_STATUSES)

    def due(self, now: datetime) -> Self:
        """Leads that somebody should work on at `at`, and nobody does."""
        return self.unclaimed(now).filter(next_attempt_at__lte=now)


class InboundLead(models.Model):
    """A lead exactly as its sender posted it, and where it stands."""

    id = models.AutoField(primary_key=True)
    received_at = models.DateTimeField(db_default=Now(), default=timezone.now)
    raw_payload = models.JSONField()
    source_headers = models.JSONField(null=True, blank=True)
    status = models.CharField(
        max_length=20, choices=LeadStatus, default=LeadStatus.RECEIVED, db_default=LeadStatus.RECEIVED
    )
    rejection_reason = models.CharField(max_length=100, null=True, blank=True)
    normalized_payload = models.JSONField(null=True, blank=True)
    customer_payload = models.JSONField(null=True, blank=True)
    payload_hash = models.CharField(max_length=64, null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), default=timezone.now)
    updated_at = models.DateTimeField(db_default=Now(), default=timezone.now)

    #: Follows the lead from the sender's request to the customer's.
    correlation_id = models.UUIDField(db_default=RandomUUID())
    #: What the customer recognises the lead by, on every attempt and after every redelivery.
    idempotency_key = models.UUIDField(db_default=RandomUUID())
    #: When to work on it next; NULL: nothing will happen by itself.
    next_attempt_at = models.DateTimeField(null=True, blank=True, db_default=Now(), default=timezone.now)
    #: Who works on it, and until when nobody else may.
    claim_token = models.UUIDField(null=True, blank=True)
    claimed_until = models.DateTimeField(null=True, blank=True)
    #: When its last doorbell rings or rang; a claim uses it up. NULL: the sweep should ring.
    enqueued_at = models.DateTimeField(null=True, blank=True)
    #: Attempts that the retry schedule does not count: from before the last redelivery, or while the customer was down.
    uncounted_attempts = models.IntegerField(default=0, db_default=0)
    #: Which mapping file made customer_payload.
    mapping_sha256 = models.CharField(max_length=64, null=True, blank=True)

    #: Who posted it, by the name that SHARED_SECRET_NAMES gives the secret; NULL: nobody had to say.
    source = models.CharField(max_length=100, null=True, blank=True)

    #: When the customer took it, and the last answer: an HTTP status, or in words what came instead of one.
    delivered_at = models.DateTimeField(null=True, blank=True)
    last_answer = models.CharField(max_length=100, null=True, blank=True)
    #: When it was last received again; NULL: it came once.
    received_again_at = models.DateTimeField(null=True, blank=True)
    #: When somebody said that it needs no attention any more.
    resolved_at = models.DateTimeField(null=True, blank=True)
    #: When the person was erased from it; what is left can be counted, and is not sent again.
    erased_at = models.DateTimeField(null=True, blank=True)

    search_email = models.CharField(max_length=254, null=True, blank=True)
    search_phone = models.CharField(max_length=32, null=True, blank=True)
    search_zipcode = models.CharField(max_length=16, null=True, blank=True)
    search_name = models.CharField(max_length=200, null=True, blank=True)

    objects = LeadQuerySet.as_manager()

    class Meta:
        db_table = "inbound_lead"
        verbose_name = _("lead")
        verbose_name_plural = _("leads")
        permissions = [
            ("act_on_lead", "Can redeliver, reprocess and resolve leads"),
            ("export_lead", "Can export leads"),
            ("view_personal_data", "Can see e-mail addresses and phone numbers"),
            ("reveal_personal_data", "Can have them shown, one lead at a time, which the trail records"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=LeadStatus.values), name="check_status"),
            # A unique constraint has an index of its own, by the same name.
            models.UniqueConstraint(fields=["payload_hash"], name="idx_inbound_lead_payload_hash"),
        ]
        indexes = [
            models.Index(fields=["status"], name="idx_inbound_lead_status"),
            models.Index(fields=["received_at"], name="idx_inbound_lead_received_at"),
            # For LeadQuerySet.due(): holds the few leads that are still under way, however many are done.
            models.Index(
                fields=["next_attempt_at"], name="idx_inbound_lead_due", condition=Q(status__in=OPEN_STATUSES)
            ),
            # For the lists of the admin, the latest first.
            models.Index(
                fields=["status", "received_at"],
                name="idx_inbound_lead_status_time",
                include=["delivered_at", "rejection_reason"],  # so that the dashboard need not read the rows
            ),
            models.Index(
                fields=["received_at"],
                name="idx_inbound_lead_attention",
                condition=NEEDS_ATTENTION,
                include=["last_answer"],
            ),
            models.Index(
                fields=["rejection_reason", "received_at"],
                name="idx_inbound_lead_reason",
                condition=Q(rejection_reason__isnull=False),
            ),
            models.Index(fields=["last_answer", "received_at"], name="idx_inbound_lead_answer"),
            models.Index(
                fields=["received_at"],
                name="idx_inbound_lead_again",
                condition=Q(received_again_at__isnull=False),
            ),
            # For the search box of the admin.
            models.Index(fields=["correlation_id"], name="idx_inbound_lead_correlation"),
            models.Index(fields=["search_email"], name="idx_inbound_lead_email"),
            models.Index(fields=["search_phone"], name="idx_inbound_lead_phone"),
            models.Index(fields=["search_zipcode"], name="idx_inbound_lead_zipcode"),
            WordIndex(Words("search_name"), name="idx_inbound_lead_words"),
        ]

    def __str__(self) -> str:
        return gettext("Lead {id}").format(id=self.pk)


class EventKind(models.TextChoices):
    """What can happen to a lead, or is done with many."""

    RECEIVED = "received", _("Received")
    DUPLICATE = "duplicate", _("Received again")
    STATUS = "status", _("Status changed")
    MAPPED = "mapped", _("Mapped for the customer")
    ATTEMPT_STARTED = "attempt_started", _("Attempt started")
    ATTEMPT_FINISHED = "attempt_finished", _("Attempt finished")
    REDELIVERED = "redelivered", _("Redelivery ordered")
    REPROCESSED = "reprocessed", _("Reprocessing ordered")
    RESOLVED = "resolved", _("Marked as settled")
    REVEALED = "revealed", _("Personal data shown")
    ERASED = "erased", _("Personal data erased")
    # Of many leads at once: these events belong to no lead.
    BULK_ACTION_CREATED = "bulk_action_created", _("Order placed")
    BULK_ACTION_CANCELLED = "bulk_action_cancelled", _("Order cancelled")
    EXPORTED = "exported", _("Leads exported")
    # Of the way out, and so of no lead either.
    CIRCUIT_OPENED = "circuit_opened", _("Customer taken for down")
    CIRCUIT_CLOSED = "circuit_closed", _("Customer is back")
    DELIVERY_PAUSED = "delivery_paused", _("Delivery held")
    DELIVERY_RESUMED = "delivery_resumed", _("Delivery resumed")
    PERSON_ERASED = "person_erased", _("Person erased")
    PERSON_EXPORTED = "person_exported", _("Data of a person exported")
    RETENTION_APPLIED = "retention_applied", _("Old leads deleted")


#: What does not happen to every lead.
RARE_EVENTS = (
    EventKind.DUPLICATE,
    EventKind.REDELIVERED,
    EventKind.REPROCESSED,
    EventKind.RESOLVED,
    EventKind.REVEALED,
    EventKind.BULK_ACTION_CREATED,
    EventKind.BULK_ACTION_CANCELLED,
    EventKind.EXPORTED,
)


class LeadEvent(models.Model):
    """One thing that happened to a lead. Rows are only ever added; the database refuses anything else."""

    id = models.BigAutoField(primary_key=True)
    #: NULL: it is about many leads at once.
    lead = models.ForeignKey(
        InboundLead, on_delete=models.CASCADE, related_name="events", db_index=False, null=True, blank=True
    )
    at = models.DateTimeField(db_default=Now(), default=timezone.now)
    kind = models.CharField(max_length=32, choices=EventKind)
    from_status = models.CharField(max_length=20, null=True, blank=True)
    to_status = models.CharField(max_length=20, null=True, blank=True)
    #: webhook, worker or the name of a user.
    actor = models.CharField(max_length=150)
    correlation_id = models.UUIDField(null=True, blank=True)
    detail = models.JSONField(default=dict, db_default=models.Value({}, output_field=models.JSONField()), blank=True)

    # The hash chain, see leads.audit.hash_chain. The database fills it in.
    #: Goes with the detail when that is erased; then its seal is kept in place of it.
    detail_salt = models.CharField(max_length=32, null=True, blank=True, editable=False)
    detail_sha256 = models.CharField(max_length=64, null=True, blank=True, editable=False)
    #: The hash of the event before it.
    previous = models.CharField(max_length=64, null=True, blank=True, editable=False)
    hash = models.CharField(max_length=64, null=True, blank=True, editable=False)

    class Meta:
        db_table = "lead_event"
        verbose_name = _("event")
        verbose_name_plural = _("events")
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=EventKind.values), name="check_event_kind"),
        ]
        indexes = [
            # For a lead's trail, in order.
            models.Index(fields=["lead", "id"], name="idx_lead_event_lead"),
            models.Index(fields=["at"], name="idx_lead_event_at"),
            # For the few events that are not part of every lead's way: by kind, and those of people by time.
            models.Index(fields=["kind", "lead"], name="idx_lead_event_rare", condition=Q(kind__in=RARE_EVENTS)),
            models.Index(fields=["id"], name="idx_lead_event_people", condition=~Q(actor__in=["webhook", "worker"])),
        ]

    def __str__(self) -> str:
        return gettext("Event {id}").format(id=self.pk)


class AuditChainHead(models.Model):
    """Where a chain of the trail ends, see leads.audit.hash_chain. Written by the database itself."""

    #: The lead's id; 0 for the events of no lead. No foreign key: when a lead is gone, that is to be noticed.
    chain = models.IntegerField(primary_key=True)
    #: Of its last event.
    hash = models.CharField(max_length=64)
    events = models.IntegerField()

    class Meta:
        db_table = "audit_chain_head"

    def __str__(self) -> str:
        return f"Head of chain {self.chain}"


class DeletedLeads(models.Model):
    """How many leads of a day retention has deleted: what is left of them for statistics."""

    id = models.BigAutoField(primary_key=True)
    #: The day, by UTC, on which they were received.
    day = models.DateField()
    #: Their last one.
    status = models.CharField(max_length=20)
    leads = models.IntegerField(default=0)
    attempts = models.IntegerField(default=0)

    class Meta:
        db_table = "deleted_leads"
        constraints = [models.UniqueConstraint(fields=["day", "status"], name="deleted_leads_once")]

    def __str__(self) -> str:
        return f"{self.leads} leads of {self.day}, {self.status}"
