from typing import Any

from django.db import migrations, transaction
from tqdm import tqdm

from leads.linking import link_new_events, link_old_events

_install = link_new_events()

#: Rounds before the last: each has to link only what came in during the one before.
_ROUNDS = 3


def link_all(apps: Any, schema_editor: Any) -> None:
    """Link what there is, in batches that keep nobody waiting; then shut others out for the rest and the trigger."""
    events = apps.get_model("leads", "LeadEvent").objects.all()
    linked = 0
    with tqdm(desc="linking events", unit=" events", disable=None) as bar:
        for _ in range(_ROUNDS):
            newest = _newest(events, schema_editor)
            link_old_events(events, after=linked, progress=bar.update)
            linked = newest
        with transaction.atomic():
            _shut_others_out(schema_editor)
            link_old_events(events, after=linked, progress=bar.update)
            _install.code(apps, schema_editor)


def _newest(events: Any, schema_editor: Any) -> int:
    """Return the newest event's number; every event with a lower one is committed, as nobody was writing one."""
    with transaction.atomic():
        _shut_others_out(schema_editor)
        return events.order_by("-pk").values_list("pk", flat=True).first() or 0


def _shut_others_out(schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("LOCK TABLE lead_event IN SHARE ROW EXCLUSIVE MODE")


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("leads", "0005_trail_chain")]

    operations = [migrations.RunPython(link_all, _install.reverse_code)]
