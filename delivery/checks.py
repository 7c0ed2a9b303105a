"""Checks of the delivery settings, for `manage.py check` and the start of every server."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from delivery.client import check_url
from delivery.mapping import MappingError, load_mapping
from leadgateway.startup import GATEWAY_TAG


@register(GATEWAY_TAG)
def check_mapping_file(**_: Any) -> list[CheckMessage]:
    """Report an invalid mapping file, which would silently drop attributes."""
    try:
        load_mapping(settings.ATTRIBUTE_MAPPING_FILE)
    except MappingError as error:
        return [Error(f"ATTRIBUTE_MAPPING_FILE: {error}", hint="See docs/mapping.md.", id="delivery.E001")]
    return []


@register(GATEWAY_TAG)
def check_customer_url(**_: Any) -> list[CheckMessage]:
    """Report a customer URL that no request can be sent to."""
    if problem := check_url(settings.CUSTOMER_API_URL):
        return [Error(f"CUSTOMER_API_URL: {problem}", id="delivery.E002")]
    return []
