"""Signals of the web server, for packages that `leadgateway` must not import. Receivers may be asynchronous."""

from django.dispatch import Signal

#: Sent in each web process before its first request.
web_worker_started = Signal()

#: Sent in each web process after its last response.
web_worker_stopped = Signal()
