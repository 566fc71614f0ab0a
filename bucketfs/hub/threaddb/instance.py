"""Instances: JSON objects of clients, checked where they come in, and the merge patches between two of them. Pure."""

from __future__ import annotations

import json
import math
import secrets
from typing import Any

from bucketfs.errors import InvalidArgument

ID_BYTES_MAX = 1024
DEPTH_MAX = 100
_ULID_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"

Instance = dict[str, Any]


def parse_instance(data: bytes) -> Instance:
    """An instance without ``_mod``, which is the server's. Raises InvalidArgument with the text for the client."""
    try:
        found = json.loads(data, parse_float=_finite, parse_int=_finite_int, parse_constant=_no_constant)
    except RecursionError as error:
        raise InvalidArgument("invalid instance: too deep") from error
    except InvalidArgument:
        raise
    except ValueError as error:
        raise InvalidArgument("invalid instance: not JSON") from error
    if not isinstance(found, dict):
        raise InvalidArgument("invalid instance: not a JSON object")
    _check_depth(found, 0)
    found.pop("_mod", None)
    _check_id(found.get("_id", ""))
    return found


def instance_text(instance: Instance) -> str:
    """Compact JSON; text is kept as it is where UTF-8 has it."""
    text = json.dumps(instance, separators=(",", ":"), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(instance, separators=(",", ":"))  # half of a surrogate pair, which JSON can name
    return text


def new_id(now_ns: int) -> str:
    """A ULID in lower case: 48 bits of milliseconds and 80 random ones, so that later ids are larger."""
    number = (now_ns // 1_000_000) << 80 | secrets.randbits(80)
    return "".join(_ULID_LETTERS[number >> shift & 31] for shift in range(125, -1, -5))


def merge_patch(before: Any, after: Any) -> Any:
    """What turns ``before`` into ``after`` (RFC 7386)."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return after
    patch: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        if name not in before:
            patch[name] = value
        elif before[name] != value or type(before[name]) is not type(value):
            patch[name] = merge_patch(before[name], value)
    return patch


def with_unseen(stored: Instance, shown: Instance, given: Instance) -> Instance:
    """``given`` as a save of what was ``shown`` of ``stored``: what the reader could not see stays."""
    merged = dict(given)
    for name, value in stored.items():
        if name not in shown:
            merged.setdefault(name, value)
        elif all(isinstance(one, dict) for one in (value, shown[name], given.get(name))):
            merged[name] = with_unseen(value, shown[name], given[name])
    return merged


def _check_id(found: Any) -> None:
    if not isinstance(found, str):
        raise InvalidArgument("invalid instance: _id is not a string")
    try:
        length = len(found.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgument("invalid instance: _id is not UTF-8") from error
    if length > ID_BYTES_MAX or "\0" in found:
        raise InvalidArgument(f"invalid instance: _id has more than {ID_BYTES_MAX} bytes, or a NUL")


def _check_depth(value: Any, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise InvalidArgument("invalid instance: too deep")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(inner, (dict, list)):
            _check_depth(inner, depth + 1)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise InvalidArgument("invalid instance: a number is too large")
    return value


def _finite_int(text: str) -> int:
    if len(text) > 300:
        raise InvalidArgument("invalid instance: a number is too large")
    return int(text)


def _no_constant(text: str) -> float:
    raise InvalidArgument(f"invalid instance: {text} is no JSON")
