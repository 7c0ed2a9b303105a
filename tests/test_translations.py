"""The German catalogue has every text of ours, whole and current."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import polib
import pytest
import unfold
from django.contrib import auth

from tests.environment import ROOT, of_a_process
from tests.processes import scratch_directory

CATALOGUE = ROOT / "config" / "locale" / "de" / "LC_MESSAGES" / "django.po"
UNFOLDS = ROOT / "config" / "locale_of_unfold" / "de" / "LC_MESSAGES" / "django.po"

Key = tuple[str | None, str]


def key_of(entry: polib.POEntry) -> Key:
    return (entry.msgctxt, entry.msgid)


def texts_of(entry: polib.POEntry) -> list[str]:
    return list(entry.msgstr_plural.values()) if entry.msgid_plural else [entry.msgstr]


@cache
def german() -> polib.POFile:
    return polib.pofile(str(CATALOGUE))


@cache
def texts_in_the_code() -> frozenset[Key]:
    """Collect them as `make messages` does, in a copy of the code."""
    copy = Path(scratch_directory("texts"))
    for package in ("leadgateway", "leads", "delivery", "stats"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__", "static"))
    (copy / "config" / "locale").mkdir(parents=True)
    for name in ("manage.py", "config/customer_attribute_mapping.json"):
        shutil.copy(ROOT / name, copy / name)
    python = ROOT / ".venv" / "bin" / "python"
    command = [python, "manage.py", "makemessages", "--locale=de", "--verbosity=0"]
    subprocess.run(command, cwd=copy, env=of_a_process(VAR_DIR=str(copy / "var")), check=True, timeout=120)
    found = polib.pofile(str(copy / "config" / "locale" / "de" / "LC_MESSAGES" / "django.po"))
    return frozenset(map(key_of, found))


@pytest.mark.slow
def test_every_text_is_in_the_catalogue_and_no_other() -> None:
    translated = {key_of(entry) for entry in german() if not entry.obsolete}

    assert sorted(texts_in_the_code() - translated, key=str) == []
    assert sorted(translated - texts_in_the_code(), key=str) == []


def test_every_text_is_translated() -> None:
    missing = [entry.msgid for entry in german() if entry.fuzzy or not all(texts_of(entry))]

    assert missing == []


def placeholders(text: str) -> set[str]:
    return set(re.findall(r"{[a-z_0-9]*[^}]*}|%\([a-z_]+\)[sd]", text))


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry.msgid[:40]) for entry in polib.pofile(str(CATALOGUE))])
def test_a_translation_has_the_placeholders_of_its_text(entry: polib.POEntry) -> None:
    wanted = placeholders(entry.msgid) | placeholders(entry.msgid_plural or "")
    for text in texts_of(entry):
        # A singular may say "a lead" where the plural says "{number} leads".
        assert placeholders(text) <= wanted
    assert placeholders(texts_of(entry)[-1]) == wanted


def test_what_is_translated_for_unfold_is_said_by_it_or_by_django() -> None:
    files = (file for package in (unfold, auth) for file in Path(package.__path__[0]).rglob("*"))
    source = "".join(file.read_text() for file in files if file.suffix in (".html", ".py"))
    said = re.sub(r"""["']\n\s+["']""", "", source)  # texts over several lines

    assert [entry.msgid for entry in polib.pofile(str(UNFOLDS)) if entry.msgid not in said] == []


@pytest.mark.parametrize("catalogue", [CATALOGUE, UNFOLDS], ids=["ours", "Unfold's"])
def test_the_compiled_catalogue_is_that_of_the_text(catalogue: Path) -> None:
    compiled, text = polib.mofile(str(catalogue.with_suffix(".mo"))), polib.pofile(str(catalogue))

    assert {key_of(entry): texts_of(entry) for entry in compiled} == {
        key_of(entry): texts_of(entry) for entry in text.translated_entries()
    }
