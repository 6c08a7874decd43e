"""The HTTP methods that this server knows (RFC 9110 section 9.3, RFC 5789)."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
READS = ("GET", "HEAD")
"""Those that change nothing and are answered from the same operations."""

ALLOW = ", ".join(METHODS)
"""The list as the value of a header."""
