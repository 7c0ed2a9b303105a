"""Signals of the web server, for packages that `leadgateway` must not import."""

from django.dispatch import Signal

#: Sent in each web process before its first request.
web_worker_started = Signal()
