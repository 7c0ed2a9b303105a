"""The documentation agrees with the code: links, paths, commands, targets, log events, metrics and words."""

import re
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import pytest
from django.core.management import get_commands
from prometheus_client.parser import text_string_to_metric_families

from delivery.privacy.erasure import PERSON_ERASED
from leads.rules import RejectionReason
from tests.environment import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

FENCED_CODE = re.compile(r"^[ ]*```.*?^[ ]*```$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`[^`\n]+`")

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
#: A path with a folder, such as `leads/rules.py` or `stats/text/`.
PATH = re.compile(r"`((?:[\w.-]+/)+(?:[\w.-]+\.(?:py|md|ya?ml|json|html|example))?)`")

#: Words of the first version that have a standard term now.
RETIRED_WORDS = (
    *("doorbells?", "rings?", "rung", "rang", "way out", "watchman", "neighbours?", "patience", "tall(?:y|ies)"),
    *("whoever", "nobody", "somebody", "the seed(?:'s)?", "trails?", "settled", "gates?", "pulse", "rooms?"),
    *("hold delivery", "delivery is held", "taken for down", "came of it", "of so many", "mend"),
)


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def prose_of(document: Path) -> str:
    return INLINE_CODE.sub("", FENCED_CODE.sub("", text_of(document)))


def code_of(document: Path) -> str:
    """Return all code of a document, one command or name per line."""
    text = text_of(document)
    return "\n".join([*FENCED_CODE.findall(text), *(code.strip("`") for code in INLINE_CODE.findall(text))])


def anchors_of(document: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings."""
    headings = HEADING.findall(FENCED_CODE.sub("", text_of(document)))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def section(document: Path, heading: str) -> str:
    """Return the text from a heading to the next one."""
    return text_of(document).partition(f"\n{heading}\n")[2].partition("\n#")[0]


def first_column(table: str) -> str:
    rows = [line for line in table.splitlines() if line.startswith("|")]
    return "\n".join(row.split("|")[1] for row in rows[2:])


def broken_links(document: Path) -> list[str]:
    broken = []
    for link in LINK.findall(FENCED_CODE.sub("", text_of(document))):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    return broken


@pytest.fixture(params=DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def document(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_links_resolve(document: Path) -> None:
    assert broken_links(document) == []


def test_paths_exist(document: Path) -> None:
    named = {path for path in PATH.findall(text_of(document)) if not path.startswith(("var/", "VAR_DIR"))}

    assert {path for path in named if not (ROOT / path).exists() and not (document.parent / path).exists()} == set()


def test_commands_exist(document: Path) -> None:
    assert set(re.findall(r"manage\.py ([a-z_]+)", code_of(document))) <= set(get_commands())


def test_modules_exist(document: Path) -> None:
    modules = set(re.findall(r"python -m ([a-z_.]+)", code_of(document)))

    assert {module for module in modules if find_spec(module) is None} == set()


def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"(?:^|\s)make ([a-z-]+)", code_of(document), re.MULTILINE)) <= targets


def test_no_retired_word_is_used(document: Path) -> None:
    pattern = re.compile(rf"\b(?:{'|'.join(RETIRED_WORDS)})\b", re.IGNORECASE)

    assert pattern.findall(prose_of(document)) == []


def test_the_readme_stays_short() -> None:
    assert len(text_of(ROOT / "README.md").splitlines()) <= 250


def test_the_readme_lists_all_packages() -> None:
    packages = ("leadgateway", "leads", "delivery", "stats")
    folders = {path.parent for name in packages for path in (ROOT / name).glob("*/*") if "pyc" not in path.name}
    subjects = {str(path.relative_to(ROOT)) for path in folders if path.name != "migrations"}
    table = first_column(section(ROOT / "README.md", "## Packages"))

    listed = {name.rstrip("/") for name in re.findall(r"`([^`]+)`", table)}
    assert listed == {*packages, *subjects, "*/migrations", "config", "benchmarks", "tests", "docs"}


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))]

    assert numbers == list(range(1, len(numbers) + 1))


def test_pictures_are_shown_somewhere() -> None:
    shown = {Path(link).name for document in DOCUMENTS for link in LINK.findall(text_of(document))}

    assert {path.name for path in (ROOT / "docs" / "pictures").iterdir()} <= shown


def test_documented_defaults_are_those_of_the_example_file() -> None:
    example = dict(re.findall(r"^# ([A-Z_]+)=(.+)$", (ROOT / "config" / "env.example").read_text(), re.MULTILINE))
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (.*?) \|", text_of(ROOT / "docs" / "settings.md"), re.MULTILINE))
    placeholders = {"DB_HOST", "SHARED_SECRET"}

    different = {name for name, default in example.items() if not rows[name].startswith(f"`{default}`")}
    assert different == placeholders


def test_the_specification_lists_all_rejection_reasons() -> None:
    table = first_column(section(ROOT / "docs" / "specification.md", "### Rejection reasons"))

    assert re.findall(r"`([A-Z0-9_]+)`", table) == [*RejectionReason, PERSON_ERASED]


def test_documented_log_events_are_written() -> None:
    table = first_column(section(ROOT / "docs" / "operations.md", "### Logs"))
    packages = ("leadgateway", "leads", "delivery", "stats")
    source = "\n".join(file.read_text() for package in packages for file in (ROOT / package).rglob("*.py"))

    events = re.findall(r"`([a-z_]+)`", table)
    assert len(events) > 5
    assert [event for event in events if f'"{event}"' not in source] == []


@pytest.mark.django_db
def test_all_metrics_are_documented(client) -> None:
    table = first_column(section(ROOT / "docs" / "operations.md", "### Metrics"))
    documented = {f"lead_gateway_{name}" for name in re.findall(r"`([a-z_]+)(?:\{[a-z_, ]+\})?`", table)}
    families = text_string_to_metric_families(client.get("/metrics").content.decode())

    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    exported = {name for name in names if not name.endswith("_created")}
    only_after_a_check = {"lead_gateway_monitoring_timestamp_seconds", "lead_gateway_queue_depth"}
    version = {"lead_gateway_info", "lead_gateway"}
    assert exported - version <= documented
    assert documented - exported <= only_after_a_check
