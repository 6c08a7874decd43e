"""The root page for people: the same facts as the JSON, as HTML without scripts."""

import base64
import hashlib
from collections.abc import Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 40rem; margin: 4rem auto; padding: 0 1rem; }
h1 { font-weight: 600; margin-bottom: 0; }
p { margin-top: .25rem; opacity: .75; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .35rem 1.5rem; margin-top: 2rem; }
dt { opacity: .75; }
dd { margin: 0; overflow-wrap: anywhere; }
.ok { color: #16833f; }
.degraded { color: #b26a00; }
.error { color: #c22f2f; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's own policy (CSP Level 3): nothing but its one style sheet."""


def render(title: str, level: str, rows: Sequence[tuple[str, str]]) -> bytes:
    """The page. Values are escaped here; one that is an http(s) URL becomes a link."""
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{_value(value)}</dd>" for name, value in rows)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(title)}</h1><p>Collaborative threat modeling</p>"
        f'<dl><dt>Status</dt><dd class="{escape(level)}">{escape(level)}</dd>{lines}</dl></body></html>'
    ).encode()


def _value(value: str) -> str:
    shown = escape(value)
    return f'<a href="{shown}">{shown}</a>' if value.startswith(("http://", "https://")) else shown
