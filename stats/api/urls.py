from django.urls import re_path

from stats.api.views import Contract, Counts, Health, History, Metrics, Ready, Recent

# Both with and without a trailing slash, because clients may not follow a redirect.
urlpatterns = [
    re_path(r"^stats/leads/counts/?\Z", Counts.as_view(), name="stats-counts"),
    re_path(r"^stats/leads/recent/?\Z", Recent.as_view(), name="stats-recent"),
    re_path(r"^stats/leads/(?P<lead_id>[0-9]+)/history/?\Z", History.as_view(), name="stats-history"),
    re_path(r"^metrics/?\Z", Metrics.as_view(), name="metrics"),
    re_path(r"^health/?\Z", Health.as_view(), name="health"),
    re_path(r"^health/ready/?\Z", Ready.as_view(), name="health-ready"),
    re_path(r"^openapi\.yaml/?\Z", Contract.as_view(), name="openapi"),
]
