"""The rules that reject leads. They check the payload as it was sent, not the normalized one."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

_SERVED_ZIPCODE = re.compile(r"66[0-9]{3}")


class RejectionReason(StrEnum):
    """Reasons for not delivering a lead. The values are part of the specification."""

    ZIP_NOT_66XXX = "ZIP_NOT_66XXX"
    NOT_HOMEOWNER = "NOT_HOMEOWNER"
    #: Not returned by `rejection_reason`: the mapping sets it for a lead that has passed these rules.
    MISSING_REQUIRED_FIELD = "MISSING_REQUIRED_FIELD"


def rejection_reason(payload: Mapping[str, Any]) -> RejectionReason | None:
    """Return the reason to reject a raw payload, or None to accept it. Never raises.

    The zip code is checked before the owner: a lead that breaks both rules is ZIP_NOT_66XXX.
    """
    if not _is_served_zipcode(payload.get("zipcode")):
        return RejectionReason.ZIP_NOT_66XXX
    if not _is_homeowner(payload.get("house")):
        return RejectionReason.NOT_HOMEOWNER
    return None


def _is_served_zipcode(zipcode: object) -> bool:
    return isinstance(zipcode, str) and _SERVED_ZIPCODE.fullmatch(zipcode) is not None


def _is_homeowner(house: object) -> bool:
    # `is`, because 1 == True in Python but not in JSON.
    return isinstance(house, Mapping) and house.get("is_owner") is True
