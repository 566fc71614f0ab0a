"""The JSON schema of a collection: what it accepts, how it is shown to clients, and which kind of value stands at a path.

Checked by jsonschema as draft 7, with the texts of the validator that the original uses (xeipuuv/gojsonschema, ``locales.go``),
because clients show them. A schema and its instances come from strangers, so: patterns are RE2 (linear time), ``$ref`` leads
nowhere outside the schema, and one check ends after ``CHECKS_MAX`` keywords. The original keeps a schema in a Go structure
(alecthomas/jsonschema ``Type``) and shows what that holds: unknown keywords and zero values are left out. They are left out here
too where a schema is shown; it is checked as it was given. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import re2
from jsonschema import Draft7Validator, FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from bucketfs.errors import InvalidArgument
from bucketfs.keys import parse_date_ns

SCHEMA_BYTES_MAX = 256 << 10
CHECKS_MAX = 500_000
"""Keywords that one check of one instance looks at, at most: a few seconds."""
ERRORS_TOLD_MAX = 20

_SHOWN = (
    *(
        "$schema",
        "$ref",
        "multipleOf",
        "maximum",
        "exclusiveMaximum",
        "minimum",
        "exclusiveMinimum",
        "maxLength",
        "minLength",
    ),
    *("pattern", "additionalItems", "items", "maxItems", "minItems", "uniqueItems", "maxProperties", "minProperties"),
    *("required", "properties", "patternProperties", "additionalProperties", "dependencies", "enum", "type", "allOf"),
    *("anyOf", "oneOf", "not", "definitions", "title", "description", "default", "format", "examples"),
)
"""In the order in which the original writes them."""
_SCHEMAS_BY_NAME = ("properties", "patternProperties", "definitions", "dependencies")
_SCHEMA_LISTS = ("allOf", "anyOf", "oneOf")
_SCHEMAS = ("additionalItems", "items", "not")
_AS_GIVEN = ("additionalProperties", "default", "enum", "examples")
_SCALARS = ("string", "number", "integer", "boolean")


class CollectionSchema:
    """A schema, parsed once. ``check`` may be called from many threads."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._validator = _Draft7(schema, registry=Registry(), format_checker=_FORMATS)
        self.text: bytes = json.dumps(_shown(schema), separators=(",", ":"), ensure_ascii=False).encode()
        """As ``GetCollectionInfo`` shows it."""

    @classmethod
    def parse(cls, data: bytes) -> CollectionSchema:
        """A schema from JSON. Raises InvalidArgument with the text for the client."""
        if len(data) > SCHEMA_BYTES_MAX:
            raise InvalidArgument(f"a collection schema may have {SCHEMA_BYTES_MAX} bytes")
        try:
            schema = json.loads(data)
            if not isinstance(schema, dict):
                raise InvalidArgument("the collection schema is not a JSON object")
            Draft7Validator.check_schema(schema)
            _check_patterns(schema)
        except RecursionError as error:
            raise InvalidArgument("the collection schema is too deep") from error
        except SchemaError as error:
            raise InvalidArgument(f"the collection schema is not a JSON schema: {_line(error.message)}") from error
        except ValueError as error:
            raise InvalidArgument("the collection schema is not JSON") from error
        except _REFUSED as error:
            raise InvalidArgument(f"the collection schema is not a JSON schema: {_line(str(error))}") from error
        found = cls(schema)
        if found.kind_at("_id") not in (None, "", "string"):
            raise InvalidArgument("the collection schema _id property must be a string")
        return found

    def check(self, instance: dict[str, Any]) -> None:
        """Whether the schema accepts ``instance``. Raises InvalidArgument with the text for the client."""
        # `_mod` is the server's own; a schema that closes itself must not refuse what a client read and saves again.
        value = instance
        if "_mod" in instance and "_mod" not in (self._schema.get("properties") or {}):
            value = {name: inner for name, inner in instance.items() if name != "_mod"}
        told: list[str] = []
        budget = _left.set(CHECKS_MAX)
        try:
            for error in self._validator.iter_errors(value):
                told.extend(_explained(error))
                if len(told) >= ERRORS_TOLD_MAX:
                    break
        except RecursionError:
            told = ["(root): is too deep for the schema"]
        except _TooLong:
            told = ["(root): takes too long to check"]
        except Unresolvable as error:
            told = [f"(root): Reference {_line(str(error.ref))} not found"]
        finally:
            _left.reset(budget)
        if told:
            raise InvalidArgument(f"instance doesn't correspond to schema: {'; '.join(told[:ERRORS_TOLD_MAX])}")

    def kind_at(self, path: str) -> str | None:
        """The type of the property at ``path`` (dots for nesting): ``"string"``, ``"object"``, …; ``""`` when the schema does not
        say one, ``None`` when it does not describe the property."""
        schema: Any = self._schema
        for name in path.split("."):
            properties = _resolved(self._schema, schema).get("properties")
            if not isinstance(properties, dict) or name not in properties:
                return None
            schema = properties[name]
        kind = _resolved(self._schema, schema).get("type", "")
        return kind if isinstance(kind, str) else ""

    def indexable(self, path: str) -> bool:
        """Whether the values at ``path`` are scalars, as far as the schema says."""
        return self.kind_at(path) in ("", *_SCALARS)


class _TooLong(Exception):
    """A check looked at more keywords than ``CHECKS_MAX``."""


_REFUSED: tuple[type[Exception], ...] = (re2.error,)
_left: ContextVar[int] = ContextVar("keywords that may still be looked at", default=CHECKS_MAX)


def _counted(keyword: Callable[..., Any]) -> Callable[..., Iterator[ValidationError]]:
    """The same keyword, at the cost of one of the checks that are left."""

    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        left = _left.get()
        if left <= 0:
            raise _TooLong
        _left.set(left - 1)
        yield from keyword(validator, value, instance, schema) or ()

    return check


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _compiled(pattern).search(_utf8(instance)):
        yield ValidationError("")


def _pattern_properties(
    validator: Any, by_pattern: dict[str, Any], instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, schema in by_pattern.items():
        compiled = _compiled(pattern)
        for name, value in instance.items():
            if compiled.search(_utf8(name)):
                yield from validator.descend(value, schema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, extra: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    known = schema.get("properties") or {}
    patterns = [_compiled(pattern) for pattern in schema.get("patternProperties") or {}]
    for name, value in instance.items():
        if name in known or any(pattern.search(_utf8(name)) for pattern in patterns):
            continue
        if extra is False:
            yield ValidationError("", validator="additionalProperties", validator_value=name)
        else:
            yield from validator.descend(value, extra, path=name)


def _unique_items(validator: Any, unique: bool, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if not unique or not validator.is_type(instance, "array"):
        return
    seen: dict[str, int] = {}
    for index, item in enumerate(instance):
        first = seen.setdefault(json.dumps(item, sort_keys=True), index)
        if first != index:
            yield ValidationError("", validator_value=(first, index))
            return


_OWN: dict[str, Callable[..., Any]] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
_extended: Any = extend
_KEYWORDS: dict[str, Any] = dict(Draft7Validator.VALIDATORS)
_Draft7 = _extended(Draft7Validator, {name: _counted(_OWN.get(name, keyword)) for name, keyword in _KEYWORDS.items()})
_FORMATS = FormatChecker(("date", "email", "ipv4", "ipv6", "uuid"))


def _is_date_time(value: object) -> bool:
    if isinstance(value, str):
        parse_date_ns(value)
    return True


_FORMATS.checks("date-time", raises=InvalidArgument)(_is_date_time)


def _compiled(pattern: str) -> Any:
    """Raises re2.error. RE2 keeps what it compiled lately."""
    options = re2.Options()
    options.log_errors = False
    return re2.compile(_utf8(pattern), options)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _check_patterns(schema: Any) -> None:
    """Raises re2.error for a pattern that RE2 does not take (a look-ahead, a back reference)."""
    if isinstance(schema, list):
        for inner in schema:
            _check_patterns(inner)
    if isinstance(schema, dict):
        for name, inner in schema.items():
            if name == "pattern" and isinstance(inner, str):
                _compiled(inner)
            if name == "patternProperties" and isinstance(inner, dict):
                for pattern in inner:
                    _compiled(pattern)
            _check_patterns(inner)


def _resolved(root: dict[str, Any], schema: Any) -> dict[str, Any]:
    """``schema``, or the definition of the same document that it names."""
    seen = 0
    while isinstance(schema, dict) and isinstance(schema.get("$ref"), str) and seen < len(_SHOWN):
        pointer = schema["$ref"]
        if not pointer.startswith("#"):
            return {}
        schema, seen = root, seen + 1
        for name in pointer[1:].strip("/").split("/") if pointer.strip("#/") else ():
            schema = schema.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(schema, dict) else None
    return schema if isinstance(schema, dict) else {}


def _shown(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as the original writes it back: known keywords in a fixed order, without zero values."""
    found = {}
    for name in _SHOWN:
        value = schema.get(name)
        if not _is_zero(value):
            found[name] = _shown_value(name, value)
    return found


def _shown_value(name: str, value: Any) -> Any:
    if name in _AS_GIVEN:
        return value
    if name in _SCHEMAS_BY_NAME and isinstance(value, dict):
        return {key: _shown(inner) if isinstance(inner, dict) else inner for key, inner in value.items()}
    if name in _SCHEMA_LISTS:
        return [_shown(inner) if isinstance(inner, dict) else inner for inner in value]
    if name in _SCHEMAS and isinstance(value, dict):
        return _shown(value)
    return value


def _is_zero(value: Any) -> bool:
    return value is None or value is False or value in (0, "") or (isinstance(value, (list, dict)) and not value)


def _explained(error: ValidationError) -> list[str]:
    field = ".".join(str(part) for part in error.absolute_path) or "(root)"
    return [f"{_line(field)}: {_line(why)}" for why in _whys(error)]


def _whys(error: ValidationError) -> Iterator[str]:
    """The reasons in the words of gojsonschema."""
    keyword = str(error.validator)
    value: Any = error.validator_value
    if keyword == "required":
        # jsonschema makes an error for each missing property, and names it only in its message.
        instance: Any = error.instance
        missing = [name for name in value if name not in instance]
        yield next((f"{name} is required" for name in missing if repr(name) in error.message), "a property is required")
    elif keyword == "type":
        expected = value if isinstance(value, str) else "/".join(value)
        yield f"Invalid type. Expected: {expected}, given: {_kind(error.instance)}"
    elif keyword == "enum":
        allowed = ", ".join(json.dumps(one, ensure_ascii=False) for one in value)
        yield f"{error.absolute_path[-1] if error.absolute_path else '(root)'} must be one of the following: {allowed}"
    elif keyword == "uniqueItems":
        first, second = value
        yield f"array items[{first},{second}] must be unique"
    else:
        yield _TEXTS[keyword].format(value=_number(value)) if keyword in _TEXTS else error.message


_TEXTS = {
    "additionalProperties": "Additional property {value} is not allowed",
    "allOf": "Must validate all the schemas (allOf)",
    "anyOf": "Must validate at least one schema (anyOf)",
    "const": "does not match: {value}",
    "contains": "At least one of the items must match",
    "exclusiveMaximum": "Must be less than {value}",
    "exclusiveMinimum": "Must be greater than {value}",
    "format": "Does not match format '{value}'",
    "maxItems": "Array must have at most {value} items",
    "maxLength": "String length must be less than or equal to {value}",
    "maxProperties": "Must have at most {value} properties",
    "maximum": "Must be less than or equal to {value}",
    "minItems": "Array must have at least {value} items",
    "minLength": "String length must be greater than or equal to {value}",
    "minProperties": "Must have at least {value} properties",
    "minimum": "Must be greater than or equal to {value}",
    "multipleOf": "Must be a multiple of {value}",
    "not": "Must not validate the schema (not)",
    "oneOf": "Must validate one and only one schema (oneOf)",
    "pattern": "Does not match pattern '{value}'",
}


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "integer" if float(value).is_integer() else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _line(text: str) -> str:
    return text[:300]
