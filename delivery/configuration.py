"""What delivery needs to know of the settings, read once and handed to functions that read no settings themselves."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cache

from django.conf import settings

from delivery.client import CustomerAPI
from delivery.mapping import AttributeMapping, load_mapping
from delivery.retry import RetryPolicy

#: How much longer than the exchange itself a claim lasts: name resolution, which no time-out of ours bounds,
#: and writing down the outcome.
LEASE_MARGIN = timedelta(seconds=15)


@dataclass(frozen=True)
class Configuration:
    """How leads go out."""

    customer: CustomerAPI
    mapping: AttributeMapping
    product_name: str
    policy: RetryPolicy

    @property
    def lease(self) -> timedelta:
        """Return how long a claim keeps others away from a lead."""
        return self.customer.timeout + LEASE_MARGIN


def retry_policy() -> RetryPolicy:
    """Return the retry policy alone, which is good also while the mapping file is not."""
    return RetryPolicy(max_attempts=settings.MAX_RETRY_ATTEMPTS, base=settings.RETRY_BACKOFF_BASE)


@cache
def current() -> Configuration:
    """Return the configuration of this process.

    :raises delivery.mapping.MappingError: the mapping file is not usable; servers refuse to start with it.
    """
    return Configuration(
        customer=CustomerAPI(
            url=settings.CUSTOMER_API_URL, token=settings.CUSTOMER_API_TOKEN, timeout=settings.CUSTOMER_API_TIMEOUT
        ),
        mapping=load_mapping(settings.ATTRIBUTE_MAPPING_FILE),
        product_name=settings.CUSTOMER_PRODUCT_NAME,
        policy=retry_policy(),
    )
