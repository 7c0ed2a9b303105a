"""Fixtures of the end-to-end tests. A failed test shows the logs of the running gateways."""

from collections.abc import Generator, Iterator

import pytest

from tests.e2e.gateway import Gateway
from tests.hostile_customer import HostileCustomer


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of every running gateway's logs to the report of a failed test."""
    report = yield
    if report.failed:
        for gateway in Gateway.running_gateways:
            for name in gateway.processes:
                report.sections.append((f"the end of {name}'s log", gateway.logs(name)[-6000:]))
    return report


@pytest.fixture(scope="module")
def running_customer() -> Iterator[HostileCustomer]:
    """Run one Customer API for the module."""
    with HostileCustomer() as customer:
        yield customer


@pytest.fixture
def customer(running_customer: HostileCustomer) -> Iterator[HostileCustomer]:
    """Return the module's customer. It accepts every lead when the test begins."""
    running_customer.set_mode("")
    yield running_customer
    running_customer.set_mode("")
