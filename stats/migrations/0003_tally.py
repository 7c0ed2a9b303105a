from typing import Any

from django.db import migrations, models
from django.utils import timezone


def begin_now(apps: Any, _schema_editor: Any) -> None:
    """Count from the trail as it is: a counter may begin anywhere, and millions of old events need not be read."""
    last = apps.get_model("leads", "LeadEvent").objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    apps.get_model("stats", "Tally").objects.create(pk=1, until=last, newest=last)


class Migration(migrations.Migration):
    dependencies = [("stats", "0002_roles"), ("leads", "0003_audit_browser")]

    operations = [
        migrations.CreateModel(
            name="Tally",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("until", models.BigIntegerField(default=0)),
                ("counted", models.JSONField(default=dict)),
                ("newest", models.BigIntegerField(default=0)),
                ("looked_at", models.DateTimeField(default=timezone.now)),
                ("closed", models.JSONField(default=dict)),
            ],
            options={"db_table": "tally"},
        ),
        migrations.RunPython(begin_now, migrations.RunPython.noop),
    ]
