"""Pagination of lists that may have millions of rows."""

from typing import Any

from django.core.paginator import Paginator
from django.utils.functional import cached_property
from django.utils.translation import gettext as _

from stats.admin.formatting import number


class CappedPaginator(Paginator):
    """Counts at most CAP rows, because counting a million rows is slow and no user opens that many pages."""

    CAP = 10_000
    template_name = "stats/admin/list_pages.html"

    @cached_property
    def count(self) -> int:
        """Return the number of rows, or CAP when there are more."""
        rows: Any = self.object_list
        return rows.order_by().values("pk")[: self.CAP].count()

    @property
    def is_capped(self) -> bool:
        """Return whether there may be more rows than were counted."""
        return self.count >= self.CAP

    @property
    def count_in_words(self) -> str:
        """Return the number of rows as text, such as `1,234` or `10,000 or more`."""
        shown = number(self.count)
        return _("{number} or more").format(number=shown) if self.is_capped else shown

    def validate_number(self, number: Any) -> int:
        """Return the nearest page number that exists, because a list may have become shorter."""
        return min(max(number, 1), self.num_pages)
