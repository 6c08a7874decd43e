"""What proxies do to entity tags (RFC 9110 section 8.8.3).

One that compresses an answer makes its tag weak or marks it with the coding, as Apache, Jetty and others do:
`W/"3"`, `"3-gzip"`, `"3--gzip"`, `"3;gzip"`. The client sends back what it was given. It means `"3"`.
"""

CODING = "(?:(?:--?|;)(?:gzip|br|zstd|deflate))?"
"""A regular expression for the mark at the end of the tag, within the quotes."""
