"""The rules that reject leads. They check the payload as it was sent, not the normalized one."""

import re
from collections.abc import Mapping
from typing import Any

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _

_SERVED_ZIPCODE = re.compile(r"66[0-9]{3}")


class RejectionReason(TextChoices):
    """Reasons for not delivering a lead. The values are part of the specification; the labels are shown to staff."""

    ZIP_NOT_66XXX = "ZIP_NOT_66XXX", _("zipcode must be five digits that begin with 66")
    NOT_HOMEOWNER = "NOT_HOMEOWNER", _("house.is_owner must be true")
    #: Not returned by `rejection_reason`: the mapping sets it for a lead that has passed these rules.
    MISSING_REQUIRED_FIELD = "MISSING_REQUIRED_FIELD", _("the phone number or the product name is missing")


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
