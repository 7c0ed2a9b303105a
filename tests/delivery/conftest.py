"""Imports of the project are inside the fixtures: this file is read before the tests have chosen their settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from delivery.configuration import Configuration
    from tests.hostile_customer import HostileCustomer as DemoCustomer


@pytest.fixture
def customer() -> Iterator[DemoCustomer]:
    """Run a customer that takes everything, until told otherwise."""
    from tests.hostile_customer import HostileCustomer as DemoCustomer

    with DemoCustomer() as customer:
        yield customer


@pytest.fixture
def config(customer: DemoCustomer) -> Configuration:
    """Return the shipped mapping and the seed's schedule, aimed at the customer."""
    from django.conf import settings

    from delivery.client import CustomerAPI
    from delivery.configuration import Configuration
    from delivery.mapping import load_mapping
    from delivery.retry import RetryPolicy

    return Configuration(
        customer=CustomerAPI(url=customer.url, token="token", timeout=timedelta(seconds=2)),
        mapping=load_mapping(settings.ATTRIBUTE_MAPPING_FILE),
        product_name="solar_panel_installation",
        policy=RetryPolicy(max_attempts=5, base=timedelta(seconds=30)),
    )


@pytest.fixture
def impatient(config: Configuration) -> Configuration:
    """Return the same with a time-out that tests can wait for."""
    return replace(config, customer=replace(config.customer, timeout=timedelta(milliseconds=300)))
