"""The settings of delivery, read once and passed to functions that read no settings themselves."""

from dataclasses import dataclass, field
from functools import cache

from django.conf import settings

from delivery.client import CustomerAPI
from delivery.control.circuit import CircuitPolicy
from delivery.control.limits import NO_LIMITS, Limits
from delivery.mapping import AttributeMapping, load_mapping
from delivery.retry import RetryPolicy


@dataclass(frozen=True)
class Configuration:
    """How leads are delivered."""

    customer: CustomerAPI
    mapping: AttributeMapping
    product_name: str
    policy: RetryPolicy
    circuit: CircuitPolicy = field(default_factory=CircuitPolicy)
    limits: Limits = NO_LIMITS


def retry_policy() -> RetryPolicy:
    """Return the retry policy. It does not need a valid mapping file."""
    return RetryPolicy(max_attempts=settings.MAX_RETRY_ATTEMPTS, base=settings.RETRY_BACKOFF_BASE)


def limits() -> Limits:
    """Return the customer's rate and concurrency limits."""
    return Limits(interval=settings.CUSTOMER_API_RATE_LIMIT, concurrency=settings.CUSTOMER_API_MAX_CONCURRENCY)


def circuit_policy() -> CircuitPolicy:
    """Return when the circuit breaker opens."""
    return CircuitPolicy(
        failures=settings.CIRCUIT_FAILURES,
        leads=settings.CIRCUIT_LEADS,
        base=settings.CIRCUIT_BACKOFF_BASE,
        longest=settings.CIRCUIT_BACKOFF_MAX,
    )


@cache
def current() -> Configuration:
    """Return the configuration of this process.

    :raises delivery.mapping.MappingError: the mapping file is invalid; servers refuse to start with it.
    """
    return Configuration(
        customer=CustomerAPI(
            url=settings.CUSTOMER_API_URL,
            token=settings.CUSTOMER_API_TOKEN,
            timeout=settings.CUSTOMER_API_TIMEOUT,
            connections=settings.WORKER_CONCURRENCY,
        ),
        mapping=load_mapping(settings.ATTRIBUTE_MAPPING_FILE),
        product_name=settings.CUSTOMER_PRODUCT_NAME,
        policy=retry_policy(),
        circuit=circuit_policy(),
        limits=limits(),
    )
