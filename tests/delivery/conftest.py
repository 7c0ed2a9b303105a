"""Imports of the project are inside the fixtures: this file is read before the tests have chosen their settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from delivery.configuration import Configuration
    from tests.hostile_customer import HostileCustomer


@pytest.fixture
def customer() -> Iterator[HostileCustomer]:
    """Run a customer that accepts every lead, until `set_mode` changes that."""
    from tests.hostile_customer import HostileCustomer

    with HostileCustomer() as customer:
        yield customer


@pytest.fixture
def config(customer: HostileCustomer) -> Configuration:
    """Return the default mapping and the specification's retry schedule, for the customer of the test."""
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


def during_request(
    config: Configuration, *, before: Callable[[], object] = bool, after: Callable[[], object] = bool
) -> Configuration:
    """Return a configuration whose client calls `before` and `after` around each request."""
    from delivery.client import CustomerAPI, CustomerResponse

    class ObservedAPI(CustomerAPI):
        def deliver(self, *args: Any, **kwargs: Any) -> CustomerResponse:
            before()
            response = super().deliver(*args, **kwargs)
            after()
            return response

    return replace(config, customer=ObservedAPI(**vars(config.customer)))
