from django.urls import re_path

from leadgateway.request import WEBHOOK_PATH
from leads.webhook.view import LeadWebhook

urlpatterns = [
    # With and without the slash: a redirect would turn a sender's POST into a GET.
    re_path(rf"^{WEBHOOK_PATH.removeprefix('/')}/?\Z", LeadWebhook.as_view(), name="lead-webhook"),
]
