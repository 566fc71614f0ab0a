"""Untrusted names and texts in a line for people: nothing in them can end the line, move the cursor or look like something else.

A name may hold any character but "/" and NUL: a newline that begins a second line, an ESC that rewrites the terminal. Names are
quoted as GNU ``ls`` does on a terminal, which a shell reads back. Texts (messages, of which a name may be a part) keep their form,
with each such character escaped in place. Bytes that are not UTF-8 are surrogates, as Python has them (surrogateescape). Pure.
"""

from __future__ import annotations

import unicodedata

_LETTERS = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r"}
_SPECIAL = frozenset(" !\"$&'()*;<=>?[\\^`|")
_SPECIAL_IN_FRONT = frozenset("#~")
_FINE_IN_DOUBLE_QUOTES = frozenset(" '%+,-./0123456789:@ABCDEFGHIJKLMNOPQRSTUVWXYZ]_abcdefghijklmnopqrstuvwxyz")
_INVISIBLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They reverse what follows, so that a name looks like another one."""


def quoted(name: str, encoding: str = "utf-8") -> str:
    """``name`` as ``ls`` shows it on a terminal of that ``encoding``: as it is, or quoted for a shell when that is needed."""
    if name.isalnum() and name.isascii():
        return name
    if all(_shows(c, encoding) for c in name):
        if name and not _needs_quotes(name):
            return name
        if "'" in name and all(c in _FINE_IN_DOUBLE_QUOTES or not c.isascii() for c in name):
            return f'"{name}"'
    return _in_quotes(name, encoding)


def in_list(name: str) -> str:
    """``name`` for a program that reads a name in each line: as it is, or ``quoted`` when it is more than one line, or would be
    taken for a quoted one."""
    if name and name[0] not in "'\"" and all(_shows(c, "utf-8") or "\udc80" <= c <= "\udcff" for c in name):
        return name
    return quoted(name)


def visible(text: str, encoding: str = "utf-8") -> str:
    """``text`` as a part of one line, with ``\\n`` or ``\\033`` for what does not show."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _shows(c, encoding) else "".join(_escapes(c)) for c in text)


def _needs_quotes(name: str) -> bool:
    return name[0] in _SPECIAL_IN_FRONT or name in ("{", "}") or any(c in _SPECIAL for c in name)


def _in_quotes(name: str, encoding: str) -> str:
    parts = ["'"]
    escaping = False
    for c in name:
        if _shows(c, encoding):
            if c == "'":
                parts.append("'\\''")
            else:
                parts.append(f"''{c}" if escaping else c)
            escaping = False
        else:
            parts += [] if escaping else ["'$'"]
            parts += _escapes(c)
            escaping = True
    return "".join([*parts, "'"])


def _shows(c: str, encoding: str) -> bool:
    if " " <= c <= "~":
        return True
    if unicodedata.category(c) in _INVISIBLE or c in _DIRECTIONS:
        return False
    if encoding == "utf-8":
        return True
    try:
        c.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _escapes(c: str) -> list[str]:
    letter = _LETTERS.get(ord(c))
    return [f"\\{letter}"] if letter else [f"\\{byte:03o}" for byte in c.encode("utf-8", "surrogateescape")]
