from django.db import migrations

from leads.audit import append_only

#: The one allowed change of an attempt: storing the outcome of an attempt that has none.
COMPLETION = """
    OLD.finished_at IS NULL AND OLD.response_status IS NULL AND OLD.response_body IS NULL
    AND OLD.error_message IS NULL AND OLD.error IS NULL AND NOT OLD.success
    AND NEW.id = OLD.id AND NEW.lead_id = OLD.lead_id AND NEW.attempt_no = OLD.attempt_no
    AND NEW.requested_at = OLD.requested_at AND NEW.created_at = OLD.created_at
"""


class Migration(migrations.Migration):
    dependencies = [("delivery", "0001_tables"), ("leads", "0002_audit_log")]

    operations = [
        append_only.delete_with_lead("delivery_attempt", fk="delivery_attempt_lead_id_fkey"),
        append_only.delete_with_lead("bulk_action_item", fk="bulk_action_item_lead_id_fkey"),
        append_only.refuse_changes("delivery_attempt", unless=COMPLETION),
    ]
