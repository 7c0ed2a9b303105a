from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("leads", "0006_link_events")]

    operations = [
        migrations.AddField(
            model_name="inboundlead",
            name="source",
            field=models.CharField(blank=True, max_length=100, null=True),
        ),
    ]
