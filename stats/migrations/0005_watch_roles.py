from typing import Any

from django.db import migrations

ROLES = ("Support", "Operator", "Auditor")
VIEWED = {"incident": "incident", "hourlystatistics": "hour"}


def let_all_look(apps: Any, _schema_editor: Any) -> None:
    """Let every role see incidents and hours. Django makes permissions only after the last migration."""
    content_types, permissions = apps.get_model("contenttypes", "ContentType"), apps.get_model("auth", "Permission")
    groups = apps.get_model("auth", "Group").objects.filter(name__in=ROLES)
    for model, verbose in VIEWED.items():
        content_type, _ = content_types.objects.get_or_create(app_label="stats", model=model)
        permission, _ = permissions.objects.get_or_create(
            content_type=content_type, codename=f"view_{model}", defaults={"name": f"Can view {verbose}"}
        )
        for group in groups:
            group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [("stats", "0004_watch")]

    operations = [migrations.RunPython(let_all_look, migrations.RunPython.noop)]
