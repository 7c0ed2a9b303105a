"""Distribute the tests to pytest-xdist's processes: tests that share a gateway run in one process."""

from xdist.scheduler import LoadScopeScheduling

#: Modules with a gateway that starts once per module and process.
_SHARED_GATEWAY = (
    "tests/browser/",
    "tests/e2e/",
    "tests/delivery/test_commands_run.py",
    "tests/stats/monitoring/test_heartbeat.py",
    "tests/stats/monitoring/test_readiness_faults.py",
)
#: Of these, the modules whose tests each start a gateway of their own.
_OWN_GATEWAYS = ("tests/e2e/test_outage.py", "tests/e2e/test_restore.py")


class GatewayScheduler(LoadScopeScheduling):
    """Assign units of tests: the tests of one gateway, or a single test."""

    def _split_scope(self, nodeid: str) -> str:  # the method that pytest-xdist documents for overriding
        return unit_of(nodeid)


def unit_of(nodeid: str) -> str:
    """Return the name of the unit to which a test belongs."""
    path, _, test = nodeid.partition("::")
    if not path.startswith(_SHARED_GATEWAY) or path in _OWN_GATEWAYS:
        return nodeid
    return f"{path} on SQLite" if "[embedded" in test else path
