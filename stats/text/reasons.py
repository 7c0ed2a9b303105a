"""Reasons in the reader's language.

The gateway stores a reason as a code with parameters, such as `{"code": "timeout", "seconds": 30}`. This module holds
the sentence for each code. A code without a sentence, and text that is no code, are shown as they are.
"""

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

#: Code -> sentence. The names in braces are parameters of the code.
_SENTENCES: dict[str, Any] = {
    # Why the customer did not take a lead, from delivery.client.
    "http_status": "HTTP {status}",
    "timeout": gettext_lazy("timed out after {seconds} s"),
    "connection_refused": gettext_lazy("connection refused"),
    "connection_reset": gettext_lazy("connection reset"),
    "closed_without_response": gettext_lazy("connection closed without a response"),
    "incomplete_response": gettext_lazy("incomplete response"),
    "not_http": gettext_lazy("the response is not HTTP"),
    "response_headers_too_long": gettext_lazy("response headers are too long"),
    "invalid_response_header": gettext_lazy("invalid response header"),
    "unsendable_header": gettext_lazy("invalid request header: check CUSTOMER_API_TOKEN"),
    "invalid_url": gettext_lazy("CUSTOMER_API_URL is invalid"),
    "host_not_found": gettext_lazy("host not found"),
    "host_lookup_failed": gettext_lazy("host lookup failed"),
    "tls": gettext_lazy("TLS error: {detail}"),
    "network": gettext_lazy("network error: {detail}"),
    "unexpected": gettext_lazy("unexpected error: {detail}"),
    # Why the customer does not get an attribute, from delivery.mapping.
    "null_value": gettext_lazy("null"),
    "empty": gettext_lazy("empty"),
    "not_text": gettext_lazy("not text"),
    "not_a_number": gettext_lazy("not a number"),
    "not_allowed": gettext_lazy("not an allowed value"),
    "below_minimum": gettext_lazy("below the minimum of {bound}"),
    "above_maximum": gettext_lazy("above the maximum of {bound}"),
    # What was changed in a payload so that the database can store it, from leads.webhook.strict_json.
    "nul_replaced": gettext_lazy("NUL characters replaced"),
    "surrogate_replaced": gettext_lazy("lone surrogates replaced"),
    "duplicate_keys": gettext_lazy("duplicate keys, last value kept"),
    # Why a lead is not sent again, from delivery.pipeline.
    "rejected_by_customer": gettext_lazy("rejected by the customer: {error}"),
    "attempts_exhausted": gettext_lazy("all {attempts} attempts failed: {error}"),
    "outcome_unknown": gettext_lazy("the outcome of the last attempt is unknown"),
}

#: Sentences for codes that may be stored without their parameters.
_WITHOUT_PARAMETERS: dict[str, Any] = {
    "timeout": gettext_lazy("timed out"),
    "tls": gettext_lazy("TLS error"),
    "network": gettext_lazy("network error"),
    "unexpected": gettext_lazy("unexpected error"),
    "rejected_by_customer": gettext_lazy("rejected by the customer"),
    "attempts_exhausted": gettext_lazy("all attempts failed"),
}


def is_reason(value: object) -> bool:
    """Return whether a stored value is a code with parameters."""
    return isinstance(value, dict) and isinstance(value.get("code"), str)


def reason_text(reason: Any) -> str:
    """Return a stored reason as text.

    :param reason: an object with `code` and parameters, or text, which is returned as it is.
    """
    if not is_reason(reason):
        return "" if reason is None else str(reason)
    parameters = {name: _parameter(value) for name, value in reason.items() if name != "code" and value is not None}
    return _sentence(reason["code"], parameters)


def code_text(code: str) -> str:
    """Return a code that is stored without parameters, such as `timeout`, as text."""
    return _sentence(code, {})


def response_text(last_answer: str | None) -> str | None:
    """Return the customer's last response, stored as an HTTP status or a code, as text; None for no response."""
    if not last_answer:
        return None
    return f"HTTP {last_answer}" if last_answer.isdecimal() else code_text(last_answer)


def attempt_error(attempt: Any) -> str:
    """Return why a delivery attempt failed; an empty string when no error was stored."""
    error = reason_text(attempt.error) if is_reason(attempt.error) else attempt.error_message or ""
    return error or ("" if attempt.success or not attempt.has_outcome else _("no response"))


def _parameter(value: Any) -> str:
    if is_reason(value):
        return reason_text(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sentence(code: str, parameters: dict[str, str]) -> str:
    sentence = str(_SENTENCES.get(code, code))
    try:
        return sentence.format(**parameters)
    except (KeyError, IndexError, ValueError):
        return str(_WITHOUT_PARAMETERS.get(code, code))
