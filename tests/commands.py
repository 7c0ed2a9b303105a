"""Runs commands of manage.py in this process."""

from io import StringIO

from django.core.management import call_command


def run(command: str, *arguments: object) -> tuple[int, str]:
    """Run a command and return its exit code and its output."""
    out = StringIO()
    try:
        call_command(command, *map(str, arguments), stdout=out, stderr=StringIO())
    except SystemExit as end:
        return int(str(end.code)), out.getvalue()
    return 0, out.getvalue()


def output_of(command: str, *arguments: object) -> str:
    """Run a command, which must succeed, and return its output."""
    code, output = run(command, *arguments)
    assert code == 0, output
    return output
