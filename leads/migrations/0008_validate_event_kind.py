from django.db import migrations

from leads.live_migrations import ValidateCheck


class Migration(migrations.Migration):
    dependencies = [("leads", "0007_source")]

    operations = [ValidateCheck("lead_event", "check_event_kind")]
