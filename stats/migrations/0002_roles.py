from collections.abc import Iterator
from typing import Any

from django.db import migrations

#: Group -> its permissions: "view" stands for every model in VIEWED, the others are on the lead.
ROLES = {
    "Support": {"view", "reveal_personal_data"},
    "Operator": {"view", "view_personal_data", "act_on_lead"},
    "Auditor": {"view", "view_personal_data", "export_lead"},
}
VIEWED = {
    "leads": ["inboundlead", "leadevent"],
    "delivery": ["deliveryattempt", "bulkaction"],
    "stats": ["incident", "hourlystatistics"],
}


def create_roles(apps: Any, _schema_editor: Any) -> None:
    """Create the groups. Django creates permissions only after the last migration, so this creates those it needs."""
    for role, wanted in ROLES.items():
        group, _ = apps.get_model("auth", "Group").objects.get_or_create(name=role)
        group.permissions.add(*_permissions(apps, wanted))


def delete_roles(apps: Any, _schema_editor: Any) -> None:
    """Delete the groups."""
    apps.get_model("auth", "Group").objects.filter(name__in=ROLES).delete()


def _permissions(apps: Any, wanted: set[str]) -> Iterator[Any]:
    if "view" in wanted:
        for app, models in VIEWED.items():
            for model in models:
                verbose = apps.get_model(app, model)._meta.verbose_name
                yield _permission(apps, app, model, f"view_{model}", f"Can view {verbose}")
    names = dict(apps.get_model("leads", "InboundLead")._meta.permissions)
    for codename in sorted(wanted - {"view"}):
        yield _permission(apps, "leads", "inboundlead", codename, names[codename])


def _permission(apps: Any, app: str, model: str, codename: str, name: str) -> Any:
    content_type, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(app_label=app, model=model)
    permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
        content_type=content_type, codename=codename, defaults={"name": name}
    )
    return permission


class Migration(migrations.Migration):
    dependencies = [
        ("stats", "0001_tables"),
        ("leads", "0002_audit_log"),
        ("delivery", "0002_append_only"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(create_roles, delete_roles)]
