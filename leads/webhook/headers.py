"""Make the headers of a request storable: remove credentials, unstorable characters and excessive length."""

import re
from collections.abc import Mapping
from urllib.parse import unquote

from leads.storable_text import clean_text

REDACTED = "[redacted]"
#: Maximum number of characters of a stored value.
MAX_VALUE_LENGTH = 4096

#: Parts of a header name that indicate a credential anywhere in it. "auth" must not match author or authority.
_CREDENTIAL_PART = re.compile(
    r"token|secret|signature|passw(?:or)?d|passcode|passphrase|credential|cookie|session|hmac|jwt"
    r"|api[-_]?key|auth(?!or(?!i[sz]))",
    re.IGNORECASE,
)
#: Words of a header name that indicate a credential, but are too short to search for within words.
_CREDENTIAL_WORDS = frozenset({"key", "keys", "sig", "pass", "pwd", "pw", "pin", "otp", "sid"})
#: Names with such a word that contain no credential.
_HARMLESS_NAMES = frozenset({"idempotency-key", "x-idempotency-key"})
_WORD = re.compile(r"[^\W_]+")

_CREDENTIAL_VALUE = re.compile(
    r"\s*(?:Bearer|Basic|Digest|Negotiate|NTLM|Hawk|AWS4-HMAC-SHA256)\s"
    r"|.*?(?<![\w-])eyJ[\w-]{8,}+\.[\w-]+\.",  # a JSON web token, anywhere
    re.IGNORECASE | re.DOTALL,
)
_USER_INFO = re.compile(r"(?<=://)[^/?#\s]*@")
#: A parameter of a query string, or of a structured header such as Forwarded. The lookbehind limits the search to
#: positions where a name can start: otherwise, a long value without "=" would take quadratic time.
_PARAMETER = re.compile(r'(?<![^\s=&;,?#"(])(?P<name>[^\s=&;,?#"(]++)=(?P<value>"[^"]*"?|[^\s&;#"]+)')


def stored_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return all headers with their credentials redacted.

    The whole value is redacted when the name indicates a credential or the value looks like one. Of a URL or a
    parameter with a credential, only the credential is redacted.
    """
    stored = {}
    for name, value in headers.items():
        if _names_credential(name) or _CREDENTIAL_VALUE.match(value):
            value = REDACTED
        else:
            value = _PARAMETER.sub(_redact_parameter, _USER_INFO.sub(f"{REDACTED}@", value))
        if not (name + value).isprintable():  # only then can they contain unstorable characters
            name, value = clean_text(name), clean_text(value)
        # Cut last, because a cut credential would not be recognized.
        stored[name] = value[:MAX_VALUE_LENGTH]
    return stored


def _names_credential(name: str) -> bool:
    if name.lower() in _HARMLESS_NAMES:
        return False
    return bool(_CREDENTIAL_PART.search(name)) or not _CREDENTIAL_WORDS.isdisjoint(_WORD.findall(name.lower()))


def _redact_parameter(match: re.Match[str]) -> str:
    """Redact a parameter whose name indicates a credential, or whose value is a URL that contains one."""
    value = unquote(match["value"])
    names = [unquote(match["name"]), *(inner["name"] for inner in _PARAMETER.finditer(value))]
    if _USER_INFO.search(value) or any(map(_names_credential, names)):
        return f"{match['name']}={REDACTED}"
    return match[0]
