"""Pages of lists that may have millions of rows."""

from typing import Any

from django.core.paginator import Paginator
from django.utils.functional import cached_property


class CappedPaginator(Paginator):
    """Counts no further than CAP: nobody turns that many pages, and counting a million rows takes its time."""

    CAP = 10_000

    @cached_property
    def count(self) -> int:
        """Return the number of rows, or CAP when there are more."""
        rows: Any = self.object_list
        return rows.order_by()[: self.CAP].count()

    @property
    def is_capped(self) -> bool:
        """Tell whether there may be more rows than were counted."""
        return self.count >= self.CAP
