"""Signed-in clients for the tests of the admin."""

import pytest
from django.test import Client


def _client_of(role: str | None) -> Client:
    # Not at the top: pytest-xdist's controller loads this file without Django's settings.
    from tests.stats.admin.pages import client_of

    return client_of(role)


@pytest.fixture
def admin_client(db: None) -> Client:
    """A client of a superuser, without the time that the hash of a password takes."""
    return _client_of(None)


@pytest.fixture
def support(db: None) -> Client:
    return _client_of("Support")


@pytest.fixture
def operator(db: None) -> Client:
    return _client_of("Operator")


@pytest.fixture
def auditor(db: None) -> Client:
    return _client_of("Auditor")


@pytest.fixture(params=["support", "admin_client"])
def reader(request: pytest.FixtureRequest) -> Client:
    """A client of a user who sees personal data masked, and one of a user who sees everything."""
    client: Client = request.getfixturevalue(request.param)
    return client
