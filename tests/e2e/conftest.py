"""Fixtures of the end-to-end tests. A failed test shows the logs of the running gateways."""

from collections.abc import Generator, Iterator

import pytest

from delivery.demo_customer import DemoCustomer
from tests.e2e.gateway import Gateway


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
def running_customer() -> Iterator[DemoCustomer]:
    """Run one Customer API for the module."""
    with DemoCustomer() as customer:
        yield customer


@pytest.fixture
def customer(running_customer: DemoCustomer) -> Iterator[DemoCustomer]:
    """Return the module's customer. It accepts every lead when the test begins."""
    running_customer.set_mode("")
    yield running_customer
    running_customer.set_mode("")
