"""Restore a backup of a running gateway into an empty database, and continue from there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gateway import Gateway
from tests.hostile_customer import HostileCustomer
from tests.make import payload
from tests.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]


@pytest.fixture
def customer() -> Iterator[HostileCustomer]:
    """Run a customer for this test alone. Its ledger is empty and outlives both gateways."""
    with HostileCustomer() as customer:
        yield customer


@pytest.fixture(params=["PostgreSQL and Redis", pytest.param("embedded", marks=pytest.mark.embedded)])
def servers(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "embedded":
        return {}
    request.getfixturevalue("redis").flush()
    return {name: request.getfixturevalue(name) for name in ("postgres", "redis")} | {"redis_database": 3}


def keys(customer: HostileCustomer) -> list[str]:
    return [request["idempotency_key"] for request in customer.requests]


def test_a_restored_gateway_continues_from_the_backup(
    customer: HostileCustomer, servers: dict[str, Any], tmp_path: Path
) -> None:
    with Gateway(customer_url=customer.url, CUSTOMER_API_TIMEOUT="3s", **servers) as before:
        delivered, rejected = before.accept(payload()), before.accept(payload(zipcode="12345"))
        before.wait_for("DELIVERED", delivered)
        before.wait_for("REJECTED", rejected)
        customer.set_mode("status=503")
        waiting = before.accept(payload())
        before.wait_for("FAILED", waiting)
        customer.set_mode("hang=1")
        in_progress = before.accept(payload())
        wait_until(lambda: before.attempts(in_progress), 15, "a running attempt")

        backup = before.back_up(tmp_path / "backup")

        rows = {lead["id"]: lead for lead in before.leads()}
        too_late = payload()
        before.accept(too_late)
        before.kill("worker")

    customer.set_mode("")
    with Gateway(customer_url=customer.url, **servers).on(backup) as after:
        after.manage("migrate", "--check")
        after.manage("verify_audit_log")
        assert after.lead(delivered) == rows[delivered]
        assert after.lead(rejected) == rows[rejected]

        # Open leads are delivered. The customer recognises the lead whose attempt was running.
        after.wait_for_all("DELIVERED", [waiting, in_progress], timeout=60)
        first, *others = after.attempts(in_progress)
        assert (first["finished_at"], first["response_status"]) == (None, None)
        assert [attempt["success"] for attempt in others][-1]
        assert keys(customer).count(rows[in_progress]["idempotency_key"]) >= 2
        assert keys(customer).count(rows[delivered]["idempotency_key"]) == 1
        assert rows[rejected]["idempotency_key"] not in keys(customer)

        # The backup does not have the later lead. Its sender posts it again, and it is accepted as new.
        answer = after.post(too_late).json()
        assert "duplicate" not in answer
        after.wait_for("DELIVERED", answer["lead_id"])

        # The audit log is still append-only and intact.
        with pytest.raises(Exception, match="append-only"):
            after.execute("DELETE FROM lead_event")
        after.manage("verify_audit_log")
