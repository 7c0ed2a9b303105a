"""The dependency audit against a local OSV server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.environment import ROOT
from tests.http_server import Answer, Post, http_server
from tests.processes import free_port

#: Entries in OSV's format, by name and version.
KNOWN = {
    ("urllib3", "1.24"): {
        "id": "PYSEC-2019-132",
        "schema_version": "1.6.0",
        "summary": "CRLF injection",
        "published": "2019-04-15T15:29:00Z",
        "affected": [
            {
                "package": {"name": "urllib3", "ecosystem": "PyPI"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.24.3"}]}],
            }
        ],
    }
}


@pytest.fixture(scope="module")
def osv() -> Iterator[str]:
    def answer(post: Post) -> Answer:
        query = json.loads(post.body)
        found = KNOWN.get((query["package"]["name"], query["version"]))
        return Answer(body=json.dumps({"vulns": [found]} if found else {}).encode())

    with http_server(answer) as url:
        yield url


def installed(directory: Path, **versions: str) -> Path:
    """Write the metadata of packages to a directory, as if they were installed there."""
    for name, version in versions.items():
        metadata = directory / f"{name}-{version}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return directory


def audit(url: str, path: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.dependency_audit", "--url", url, "--path", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_a_known_vulnerability_fails_the_audit(osv: str, tmp_path: Path) -> None:
    result = audit(osv, installed(tmp_path, urllib3="1.24", idna="3.10"))

    assert result.returncode == 1
    assert result.stdout == ("urllib3 1.24: PYSEC-2019-132, fixed in 1.24.3\n2 packages, 1 known vulnerabilities\n")


def test_packages_without_vulnerabilities_pass(osv: str, tmp_path: Path) -> None:
    result = audit(osv, installed(tmp_path, urllib3="1.24.3"))

    assert result.returncode == 0
    assert result.stdout == "1 packages, 0 known vulnerabilities\n"
    assert "NOT AUDITED" not in result.stderr


def test_without_access_to_osv_the_audit_warns_and_passes(tmp_path: Path) -> None:
    result = audit(f"http://127.0.0.1:{free_port()}", installed(tmp_path, urllib3="1.24"))

    assert result.returncode == 0
    assert "known vulnerabilities" not in result.stdout
    assert "!!! NOT AUDITED: http://127.0.0.1" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_audit_is_part_of_make_lint() -> None:
    done = subprocess.run(["make", "--dry-run", "lint"], cwd=ROOT, capture_output=True, text=True, check=True)

    assert "python -m tests.dependency_audit" in done.stdout
