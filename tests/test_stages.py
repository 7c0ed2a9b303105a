"""The stages of `make test`, and the processes that run them."""

import pytest

from tests.scheduler import unit_of
from tests.stages import Stage, run_all


def test_a_failing_stage_does_not_hide_the_next_one(capfd: pytest.CaptureFixture[str]) -> None:
    stages = [Stage("broken", ("--no-such-option",)), Stage("working", ("--version",))]

    assert run_all(stages) == 1

    summary = capfd.readouterr().out.partition("== summary")[2]
    assert "broken: FAILED with exit code 4" in summary
    assert "working: passed" in summary


def test_passing_stages_pass() -> None:
    assert run_all([Stage("working", ("--version",))]) == 0


@pytest.mark.parametrize(
    ("nodeid", "unit"),
    [
        ("tests/leads/test_rules.py::test_x", "tests/leads/test_rules.py::test_x"),
        ("tests/e2e/test_faults.py::test_x", "tests/e2e/test_faults.py"),
        ("tests/e2e/test_main_path.py::test_x[embedded]", "tests/e2e/test_main_path.py on SQLite"),
        ("tests/e2e/test_outage.py::test_x[embedded]", "tests/e2e/test_outage.py::test_x[embedded]"),
    ],
)
def test_tests_of_one_gateway_form_a_unit(nodeid: str, unit: str) -> None:
    assert unit_of(nodeid) == unit
