"""One customer and one gateway of each kind a module; their logs beside what failed."""

from collections.abc import Generator, Iterator

import pytest

from tests.e2e.gateway import Gateway
from tests.hostile_customer import HostileCustomer as DemoCustomer


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of every log of the gateways that run, when a test fails."""
    report = yield
    if report.failed:
        for gateway in Gateway.alive:
            for name in gateway.processes:
                report.sections.append((f"the end of {name}'s log", gateway.logs(name)[-6000:]))
    return report


@pytest.fixture(scope="module")
def running_customer() -> Iterator[DemoCustomer]:
    with DemoCustomer() as customer:
        yield customer


@pytest.fixture
def customer(running_customer: DemoCustomer) -> Iterator[DemoCustomer]:
    """The module's customer, accepting everything when the test begins."""
    running_customer.set_mode("")
    yield running_customer
    running_customer.set_mode("")
