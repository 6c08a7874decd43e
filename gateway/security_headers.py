"""What every answer tells browsers about how careful to be."""

from gateway.responses import RawHeaders

_HEADERS: RawHeaders = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"x-xss-protection", b"0"),
    (b"referrer-policy", b"strict-origin-when-cross-origin"),
    (b"permissions-policy", b"geolocation=(), microphone=(), camera=()"),
]
_CACHE_CONTROL = (b"cache-control", b"no-store, no-cache, must-revalidate")
# Answers are data; a page that needs its own style or script sets its own policy with a hash or nonce.
_CONTENT_SECURITY_POLICY = (
    b"content-security-policy",
    b"default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: https:; font-src 'self'; "
    b"connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
)
_STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
_ALWAYS_OVER_TLS = [*_HEADERS, _STRICT_TRANSPORT]


def mark(headers: RawHeaders, *, tls: bool = False) -> None:
    """Adds the headers; a policy for caching or content that the answer brings stays.

    HSTS (RFC 6797) is only promised when clients come over TLS.
    """
    names = [name for name, _ in headers]
    headers += _ALWAYS_OVER_TLS if tls else _HEADERS
    if b"cache-control" not in names:
        headers.append(_CACHE_CONTROL)
    if b"content-security-policy" not in names:
        headers.append(_CONTENT_SECURITY_POLICY)
