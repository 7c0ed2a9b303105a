"""Pages of lists that may have millions of rows."""

from typing import Any

from django.core.paginator import Paginator
from django.utils.formats import number_format
from django.utils.functional import cached_property
from django.utils.translation import gettext as _


class CappedPaginator(Paginator):
    """Counts no further than CAP: nobody turns that many pages, and counting a million rows takes its time."""

    CAP = 10_000
    template_name = "stats/admin/list_pages.html"

    @cached_property
    def count(self) -> int:
        """Return the number of rows, or CAP when there are more."""
        rows: Any = self.object_list
        return rows.order_by().values("pk")[: self.CAP].count()

    @property
    def is_capped(self) -> bool:
        """Tell whether there may be more rows than were counted."""
        return self.count >= self.CAP

    @property
    def count_in_words(self) -> str:
        """Return the number of rows as far as it is known, such as `1,234` or `10,000 or more`."""
        number = number_format(self.count, force_grouping=True)
        return _("{number} or more").format(number=number) if self.is_capped else number

    def validate_number(self, number: Any) -> int:
        """Return the number of a page that there is: the nearest one, as a list may have become shorter."""
        return min(max(number, 1), self.num_pages)
