"""docs/security.md says which test shows what: each of them must be there, and each threat must have one."""

import ast
import re

from tests.environment import ROOT

DOCUMENT = (ROOT / "docs" / "security.md").read_text()

NAMED = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", DOCUMENT)

THREATS = [line for line in DOCUMENT.splitlines() if line.startswith("| **")]


def names_in(path: str) -> set[str]:
    module = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(module) if isinstance(node, ast.FunctionDef)}


def test_each_test_that_is_named_exists() -> None:
    assert [f"{path}::{name}" for path, name in NAMED if name not in names_in(path)] == []


def test_each_threat_names_a_test() -> None:
    assert len(THREATS) >= 20
    assert [threat for threat in THREATS if "::test_" not in threat.rsplit(" | ", 1)[1]] == []


def test_nothing_else_looks_like_a_test() -> None:
    """A misspelt reference must not be skipped over."""
    assert len(NAMED) == DOCUMENT.count("::")
