"""Which leads we take. The rules look at the payload as it was sent, not at the normalized one."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

_SERVED_ZIPCODE = re.compile(r"66[0-9]{3}")


class RejectionReason(StrEnum):
    """Why a lead is not delivered; the values are stored and shown as they are."""

    ZIP_NOT_66XXX = "ZIP_NOT_66XXX"
    NOT_HOMEOWNER = "NOT_HOMEOWNER"
    #: Never from `rejection_reason`: the mapping finds it, on a lead that passed these rules.
    MISSING_REQUIRED_FIELD = "MISSING_REQUIRED_FIELD"


def rejection_reason(payload: Mapping[str, Any]) -> RejectionReason | None:
    """Return the first rule the raw payload breaks, or None for a lead we take. Never raises.

    The zip code is looked at before the owner, so a lead that breaks both is ZIP_NOT_66XXX.
    """
    if not _is_served_zipcode(payload.get("zipcode")):
        return RejectionReason.ZIP_NOT_66XXX
    if not _is_homeowner(payload.get("house")):
        return RejectionReason.NOT_HOMEOWNER
    return None


def _is_served_zipcode(zipcode: Any) -> bool:
    return isinstance(zipcode, str) and _SERVED_ZIPCODE.fullmatch(zipcode) is not None


def _is_homeowner(house: Any) -> bool:
    # Identity, because 1 == True in Python but not in JSON.
    return isinstance(house, Mapping) and house.get("is_owner") is True
