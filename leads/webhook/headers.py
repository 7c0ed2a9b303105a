"""The headers of a request as they may be stored: all of them, none with a credential in it."""

import re
from collections.abc import Mapping
from urllib.parse import unquote

from leads.webhook.strict_json import clean_text

REDACTED = "[redacted]"
#: Characters of a value that are stored.
MAX_VALUE_LENGTH = 4096

#: Parts of a name that speak for a credential wherever they stand. "auth" does not mean author or authority.
_CREDENTIAL_PART = re.compile(
    r"token|secret|signature|passw(?:or)?d|passcode|passphrase|credential|cookie|session|hmac|jwt"
    r"|api[-_]?key|auth(?!or(?!i[sz]))",
    re.IGNORECASE,
)
#: The same for whole words of a name, too short to look for inside of others.
_CREDENTIAL_WORDS = frozenset({"key", "keys", "sig", "pass", "pwd", "pw", "pin", "otp", "sid"})
#: Names with such a word that hold no credential.
_HARMLESS_NAMES = frozenset({"idempotency-key", "x-idempotency-key"})
_WORD = re.compile(r"[^\W_]+")

_CREDENTIAL_VALUE = re.compile(
    r"\s*(?:Bearer|Basic|Digest|Negotiate|NTLM|Hawk|AWS4-HMAC-SHA256)\s"
    r"|.*?(?<![\w-])eyJ[\w-]{8,}+\.[\w-]+\.",  # a JSON web token, anywhere
    re.IGNORECASE | re.DOTALL,
)
_USER_INFO = re.compile(r"(?<=://)[^/?#\s]*@")
#: A parameter of a query string, or of a structured header such as Forwarded. It is only looked for where a name can
#: start: from every character on, a long value without "=" would be read over and over.
_PARAMETER = re.compile(r'(?<![^\s=&;,?#"(])(?P<name>[^\s=&;,?#"(]++)=(?P<value>"[^"]*"?|[^\s&;#"]+)')


def stored_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return all headers with their credentials redacted, cleaned of what PostgreSQL cannot hold and cut to length.

    A name that speaks of a credential, or a value that has the form of one, loses the whole value; a URL or parameter
    with a credential in it loses only that.
    """
    return {clean_text(name): _stored_value(name, value) for name, value in headers.items()}


def _stored_value(name: str, value: str) -> str:
    if _names_credential(name) or _CREDENTIAL_VALUE.match(value):
        return REDACTED
    # Cut last: a cut credential would not be recognised.
    return clean_text(_redact_parts(value))[:MAX_VALUE_LENGTH]


def _names_credential(name: str) -> bool:
    if name.lower() in _HARMLESS_NAMES:
        return False
    words = {word.lower() for word in _WORD.findall(name)}
    return bool(_CREDENTIAL_PART.search(name) or words & _CREDENTIAL_WORDS)


def _redact_parts(value: str) -> str:
    return _PARAMETER.sub(_redact_parameter, _USER_INFO.sub(f"{REDACTED}@", value))


def _redact_parameter(match: re.Match[str]) -> str:
    if _names_credential(unquote(match["name"])) or _holds_credential(unquote(match["value"])):
        return f"{match['name']}={REDACTED}"
    return match[0]


def _holds_credential(value: str) -> bool:
    """Tell whether a parameter's value, a URL within a URL for example, has a credential in one of its parts."""
    names = (match["name"] for match in _PARAMETER.finditer(value))
    return bool(_USER_INFO.search(value)) or any(map(_names_credential, names))
