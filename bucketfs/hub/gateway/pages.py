"""The HTML of the gateway. Names come from strangers: every one is escaped, and quoted in links. Pure."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from bucketfs.hub.trees import ListingItem

ROWS_MAX = 10_000
"""Of one page. More names are for programs, which have calls for them."""
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;width:100%}td{padding:.15rem .5rem;border-bottom:1px solid #eee}"
    "td+td{text-align:right;white-space:nowrap;color:#666}a{color:#0645ad;text-decoration:none;word-break:break-all}"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of an index: where it leads (quoted, without the token), what it is called, and its size in bytes."""

    href: str
    name: str
    size_bytes: int | None = None


def message(text: str) -> bytes:
    """A page with one sentence."""
    return _page("Hub", f"<p>{html.escape(text)}</p>")


def index(title: str, rows: Iterable[Row], token: str = "") -> bytes:
    """A page with a table of links; ``token`` goes along with each."""
    query = f"?token={quote(token, safe='')}" if token else ""
    lines = [
        f'<tr><td><a href="{html.escape(row.href + query, quote=True)}">{_shown(row.name)}</a></td><td>{_size(row)}</td></tr>'
        for row in rows
    ]
    more = f"<p>Only the first {ROWS_MAX:,} are shown.</p>" if len(lines) > ROWS_MAX else ""
    return _page(title, f"<h1>{_shown(title)}</h1><table>{''.join(lines[:ROWS_MAX])}</table>{more}")


def folder(title: str, base: str, items: Iterable[ListingItem], token: str, *, top: bool) -> bytes:
    """The index of a folder whose URL path is ``base`` (quoted, without a slash at its end)."""
    rows = [] if top else [Row(base.rpartition("/")[0], "..")]
    for item in sorted(items, key=lambda one: (not one.is_directory, one.name)):
        name = item.name.decode("utf-8", "replace")
        shown = f"{name}/" if item.is_directory else name
        rows.append(Row(f"{base}/{quote(item.name, safe='')}", shown, None if item.is_directory else item.size))
    return index(title, rows, token)


def _page(title: str, body: str) -> bytes:
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>{_shown(title)}</title>"
    return f"<!doctype html><html lang=en><head>{head}<style>{_STYLE}</style></head><body>{body}</body></html>\n".encode()


def _shown(text: str) -> str:
    return html.escape(text.encode("utf-8", "replace").decode())


def _size(row: Row) -> str:
    return "" if row.size_bytes is None else f"{row.size_bytes:,}"
