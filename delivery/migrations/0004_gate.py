from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("delivery", "0003_orders"), ("leads", "0004_gate_events")]

    operations = [
        migrations.CreateModel(
            name="DeliveryGate",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("held_at", models.DateTimeField(blank=True, null=True)),
                ("held_by", models.CharField(blank=True, max_length=150, null=True)),
                ("held_reason", models.TextField(blank=True, null=True)),
                ("failures", models.IntegerField(default=0)),
                ("failed_leads", models.JSONField(blank=True, default=list)),
                ("opened_at", models.DateTimeField(blank=True, null=True)),
                ("probes", models.IntegerField(default=0)),
                ("probe_at", models.DateTimeField(blank=True, null=True)),
                ("free_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "verbose_name": "delivery gate",
                "verbose_name_plural": "delivery gate",
                "db_table": "delivery_gate",
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("id", 1)), name="check_delivery_gate_is_one"),
                ],
            },
        ),
    ]
