from collections.abc import Iterator
from typing import Any

from django.db import migrations

#: Group -> its permissions, each on the model that it is about.
ROLES = {
    "Support": {"view", "reveal_personal_data"},
    "Operator": {"view", "view_personal_data", "act_on_lead"},
    "Auditor": {"view", "view_personal_data", "export_lead"},
}
VIEWED = {
    "leads": ["inboundlead", "leadevent"],
    "delivery": ["deliveryattempt", "batchorder"],
}
SPECIAL = {
    "act_on_lead": "Can redeliver, reprocess and resolve leads",
    "export_lead": "Can export leads",
    "view_personal_data": "Can see e-mail addresses and phone numbers",
    "reveal_personal_data": "Can have them shown, one lead at a time, which the trail records",
}


def make_roles(apps: Any, schema_editor: Any) -> None:
    """Make the groups. Django makes permissions only after the last migration, so those needed are made here."""
    group_model = apps.get_model("auth", "Group")
    for role, wanted in ROLES.items():
        group, _ = group_model.objects.get_or_create(name=role)
        group.permissions.add(*_permissions(apps, wanted))


def _permissions(apps: Any, wanted: set[str]) -> Iterator[Any]:
    if "view" in wanted:
        for app, models in VIEWED.items():
            for model in models:
                verbose = apps.get_model(app, model)._meta.verbose_name
                yield _permission(apps, app, model, f"view_{model}", f"Can view {verbose}")
    for codename in sorted(wanted - {"view"}):
        yield _permission(apps, "leads", "inboundlead", codename, SPECIAL[codename])


def _permission(apps: Any, app: str, model: str, codename: str, name: str) -> Any:
    content_type, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(app_label=app, model=model)
    permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
        content_type=content_type, codename=codename, defaults={"name": name}
    )
    return permission


class Migration(migrations.Migration):
    dependencies = [
        ("stats", "0001_initial"),
        ("leads", "0003_audit_browser"),
        ("delivery", "0003_orders"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(make_roles, migrations.RunPython.noop)]
