import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone

from delivery.management.arguments import actor
from delivery.management.person_arguments import add_person, search
from delivery.privacy.export import export
from leads.audit.number_ranges import in_ranges
from leads.audit.recording import record_system_event
from leads.models import EventKind


class Command(BaseCommand):
    help = (
        "Print all data about a person as JSON, with who viewed it and when it was sent to the customer. "
        "The output is personal data. The export is recorded in the audit log."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_person(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        person, occurrences = search(options)
        now = timezone.now()
        data = {"exported_at": now, **export(person, occurrences)}
        detail = {"leads": in_ranges(occurrences.own_leads), "other_leads": in_ranges(occurrences.other_leads)}
        record_system_event(EventKind.PERSON_EXPORTED, actor=actor(), now=now, detail=detail)
        self.stdout.write(json.dumps(data, cls=DjangoJSONEncoder, ensure_ascii=False, indent=2))
