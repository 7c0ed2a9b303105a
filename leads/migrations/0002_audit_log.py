from django.db import migrations

from leads.audit import append_only, chain_triggers


class Migration(migrations.Migration):
    dependencies = [("leads", "0001_tables")]

    operations = [
        append_only.create_guard(),
        append_only.delete_with_lead("lead_event", fk="lead_event_lead_id_fkey"),
        append_only.refuse_changes("lead_event"),
        chain_triggers.link_new_events(),
    ]
