"""Checks of this machine."""

from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from stats.monitoring.checks import installation
from stats.monitoring.checks.result import Verdict, ok
from tests.stats.monitoring.checks.results import only_result

OK, WARNING, FAILURE = Verdict.OK, Verdict.WARNING, Verdict.FAILURE


def test_the_installed_packages_match_the_requirements() -> None:
    assert only_result(installation.versions, "packages").verdict is OK


def test_another_version_of_a_package_is_named(settings: Any, tmp_path: Path) -> None:
    settings.BASE_DIR = tmp_path
    (tmp_path / "requirements.txt").write_text("celery[redis]==5.7.0\nno-such-package==1.0\n")

    result = only_result(installation.versions, "packages")

    assert result.verdict is WARNING
    assert result.facts["differences"] == ["celery 5.6.3, not 5.7.0", "no-such-package missing, not 1.0"]


SECRET = "s3cret-word-and-more"


@pytest.mark.parametrize(
    ("check", "changes", "verdict"),
    [
        ("DEBUG", {"DEBUG": False}, OK),
        ("DEBUG", {"DEBUG": True}, WARNING),
        ("ENABLE_AUTH", {"ENABLE_AUTH": False}, WARNING),
        ("ENABLE_AUTH", {"ENABLE_AUTH": True, "SHARED_SECRETS": [SECRET]}, OK),
        ("ENABLE_AUTH", {"ENABLE_AUTH": True, "SHARED_SECRETS": ["s3cret-word"]}, WARNING),
        ("ENABLE_AUTH", {"ENABLE_AUTH": True, "SHARED_SECRETS": [SECRET], "STATS_TOKEN": "x"}, WARNING),
        ("ENABLE_AUTH", {"ENABLE_AUTH": True, "SHARED_SECRETS": [SECRET, "your_secret"]}, FAILURE),
        ("ALLOWED_HOSTS", {"ALLOWED_HOSTS": ["leads.example.com"]}, OK),
        ("ALLOWED_HOSTS", {"ALLOWED_HOSTS": ["leads.example.com", "*"]}, WARNING),
    ],
)
def test_settings_for_trials_are_reported(settings: Any, check: str, changes: dict[str, Any], verdict: Verdict) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)

    result = only_result(installation.exposure, check)

    assert result.verdict is verdict
    assert "s3cret-word" not in str(result)


@pytest.mark.parametrize(("mode", "verdict"), [(0o600, OK), (0o640, WARNING), (0o604, WARNING)])
def test_a_secret_key_that_others_can_read_is_reported(
    settings: Any, tmp_path: Path, mode: int, verdict: Verdict
) -> None:
    file = tmp_path / "secret_key"
    file.write_text("s3cret-word" * 5)
    file.chmod(mode)
    settings.VAR_DIR, settings.SECRET_KEY = tmp_path, file.read_text()

    result = only_result(installation.secret_key)

    assert result.verdict is verdict
    assert "s3cret-word" not in str(result)


def test_a_secret_key_from_the_environment_needs_no_file(settings: Any, tmp_path: Path) -> None:
    settings.VAR_DIR = tmp_path

    assert only_result(installation.secret_key) == ok("SECRET_KEY", code="environment")


@pytest.mark.parametrize(("free", "verdict"), [(50 * 2**30, OK), (2**29, WARNING), (2**20, FAILURE)])
def test_a_disk_with_little_space_is_reported(monkeypatch: pytest.MonkeyPatch, free: int, verdict: Verdict) -> None:
    usage = namedtuple("usage", "total used free")(2**40, 2**40 - free, free)
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: usage)

    assert only_result(installation.disk).verdict is verdict
