"""Imports of the project are inside the fixtures: this file is read before the tests have chosen their settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
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


def advance(lead_id: int, *, config: Configuration) -> datetime | None:
    """Deliver one lead, step by step in this thread. Return when it is due again, if it needs a message then."""
    from delivery import pipeline

    claims = pipeline.claim([lead_id], request_timeout=config.customer.timeout)
    deliveries = pipeline.prepare(claims, config=config) if claims else []
    results = [pipeline.send(delivery, config=config) for delivery in deliveries]
    return pipeline.settle(results, config=config).get(lead_id) if results else None


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

    customer = config.customer
    return replace(config, customer=ObservedAPI(customer.url, customer.token, customer.timeout))
