from django.db import migrations, models

from leads import append_only
from leads.live_migrations import AddCheck

KINDS = [
    ("received", "Received"),
    ("duplicate", "Received again"),
    ("status", "Status changed"),
    ("mapped", "Mapped for the customer"),
    ("attempt_started", "Attempt started"),
    ("attempt_finished", "Attempt finished"),
    ("redelivered", "Redelivery ordered"),
    ("reprocessed", "Reprocessing ordered"),
    ("resolved", "Marked as settled"),
    ("revealed", "Personal data shown"),
    ("order_placed", "Order placed"),
    ("order_cancelled", "Order cancelled"),
    ("exported", "Leads exported"),
    ("circuit_opened", "Customer taken for down"),
    ("circuit_closed", "Customer is back"),
    ("delivery_held", "Delivery held"),
    ("delivery_resumed", "Delivery resumed"),
]

_events_go_with_their_lead = append_only.delete_with_lead("lead_event", fk="lead_event_lead_id_fkey")


class Migration(migrations.Migration):
    dependencies = [("leads", "0003_audit_browser")]

    operations = [
        # SQLite cannot put the rebuilt table in its place while a trigger speaks of it.
        append_only.undo(_events_go_with_their_lead),
        migrations.RemoveConstraint(model_name="leadevent", name="check_event_kind"),
        migrations.AlterField(
            model_name="leadevent", name="kind", field=models.CharField(choices=KINDS, max_length=32)
        ),
        AddCheck(
            model_name="leadevent",
            constraint=models.CheckConstraint(
                condition=models.Q(("kind__in", [kind for kind, _ in KINDS])), name="check_event_kind"
            ),
        ),
        # On SQLite the table has been made anew, without its triggers.
        _events_go_with_their_lead,
        append_only.refuse_changes("lead_event"),
    ]
