from typing import Any

from django.db import migrations, transaction
from tqdm import tqdm

from leads.linking import link_new_events, link_old_events

_install = link_new_events()


def link_all(apps: Any, schema_editor: Any) -> None:
    """Link what there is, in batches that keep nobody waiting; then shut others out for the rest and the trigger."""
    model = apps.get_model("leads", "LeadEvent")
    with tqdm(desc="linking events", unit=" events", disable=None) as bar:
        link_old_events(model.objects.all(), progress=bar.update)
        with transaction.atomic():
            if schema_editor.connection.vendor == "postgresql":
                schema_editor.execute("LOCK TABLE lead_event IN SHARE ROW EXCLUSIVE MODE")
            link_old_events(model.objects.all(), progress=bar.update)
            _install.code(apps, schema_editor)


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("leads", "0005_trail_chain")]

    operations = [migrations.RunPython(link_all, _install.reverse_code)]
