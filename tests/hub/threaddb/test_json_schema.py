"""Schemas of collections: what they refuse and in which words, what clients see of them, and schemas made to harm."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from bucketfs.errors import InvalidArgument
from bucketfs.hub.threaddb import CollectionSchema


def schema(**keywords: Any) -> CollectionSchema:
    return CollectionSchema.parse(json.dumps(keywords).encode())


def refusal(made: CollectionSchema, instance: dict[str, Any]) -> str:
    """Why an instance is refused, or ``""``."""
    try:
        made.check(instance)
    except InvalidArgument as error:
        return str(error).removeprefix("instance doesn't correspond to schema: ")
    return ""


PERSON = schema(
    type="object",
    properties={
        "_id": {"type": "string"},
        "name": {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]+$"},
        "age": {"type": "number", "minimum": 0, "maximum": 150, "multipleOf": 0.5},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2, "uniqueItems": True},
        "kind": {"enum": ["a", 1]},
        "home": {"type": "object", "required": ["city"], "additionalProperties": False, "properties": {"city": {}}},
    },
    required=["_id", "name"],
)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, ""),
        ({"name": 5}, "name: Invalid type. Expected: string, given: integer"),
        ({"name": "x"}, "name: String length must be greater than or equal to 2"),
        ({"name": "abcde"}, "name: String length must be less than or equal to 4"),
        ({"name": "Ab"}, "name: Does not match pattern '^[a-z]+$'"),
        ({"age": -1}, "age: Must be greater than or equal to 0"),
        ({"age": 151}, "age: Must be less than or equal to 150"),
        ({"age": 0.25}, "age: Must be a multiple of 0.5"),
        ({"age": True}, "age: Invalid type. Expected: number, given: boolean"),
        ({"tags": ["a", "a"]}, "tags: array items[0,1] must be unique"),
        ({"tags": ["a", "b", "c"]}, "tags: Array must have at most 2 items"),
        ({"tags": [None]}, "tags.0: Invalid type. Expected: string, given: null"),
        ({"kind": "b"}, 'kind: kind must be one of the following: "a", 1'),
        ({"home": {}}, "home: city is required"),
        ({"home": {"city": 1, "zip": 2}}, "home: Additional property zip is not allowed"),
    ],
)
def test_an_instance_that_does_not_fit_is_told_why(change: dict[str, Any], why: str) -> None:
    """Clients show these words; they name the field that a user has to mend."""
    assert refusal(PERSON, {"_id": "1", "name": "ab"} | change) == why


def test_what_is_missing_is_named_at_the_root() -> None:
    """Two things that are wrong are both told, so that a user does not find them one by one."""
    assert refusal(PERSON, {}) == "(root): _id is required; (root): name is required"


def test_the_time_of_the_last_change_is_no_property_of_the_user() -> None:
    """A client that reads an instance and saves it again sends ``_mod`` along; a closed schema must not refuse it."""
    closed = schema(type="object", properties={"_id": {"type": "string"}}, additionalProperties=False)
    assert refusal(closed, {"_id": "1", "_mod": 5}) == ""
    assert refusal(closed, {"_id": "1", "other": 5}) == "(root): Additional property other is not allowed"


def test_the_empty_schema_accepts_everything() -> None:
    """It is what clients send that want no schema."""
    assert refusal(schema(), {"a": [1, None, {"b": "c"}]}) == ""


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"properties": {"a": {"minimum": 0, "type": "number"}}}, {"properties": {"a": {"type": "number"}}}),
        ({"$id": "http://x/y", "title": "T", "unknown": 1}, {"title": "T"}),
        ({"type": "object", "required": [], "properties": {"a": {}}}, {"properties": {"a": {}}, "type": "object"}),
        ({"additionalProperties": True, "enum": [0, ""]}, {"additionalProperties": True, "enum": [0, ""]}),
        ({}, {}),
    ],
)
def test_clients_see_the_schema_as_the_original_shows_it(given: dict[str, Any], shown: dict[str, Any]) -> None:
    """A JavaScript client compares what it gave with what it gets, without zero values and unknown keywords."""
    assert json.loads(schema(**given).text) == shown


def test_a_minimum_of_zero_holds_although_it_is_not_shown() -> None:
    """A user who forbids negative numbers gets none."""
    assert refusal(schema(properties={"a": {"minimum": 0}}), {"a": -1}) == "a: Must be greater than or equal to 0"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b'{"type": "nothing"}',
        b'{"properties": 5}',
        b'{"pattern": "(?=a)"}',
        b'{"patternProperties": {"(a)\\\\1": {}}}',
        b'{"properties": {"_id": {"type": "number"}}}',
        b'{"not": ' * 100_000,
        b'{"title": "' + b"x" * (300 << 10) + b'"}',
    ],
)
def test_what_is_no_schema_is_refused(data: bytes) -> None:
    """A typing error is told when the collection is made, and nothing harms the Hub."""
    with pytest.raises(InvalidArgument):
        CollectionSchema.parse(data)


def test_the_type_at_a_path_is_found_through_definitions() -> None:
    """Indexes are made of scalars that the schema describes; users of ``$ref`` want them too."""
    made = schema(
        properties={
            "a": {"type": "string"},
            "b": {"$ref": "#/definitions/deep"},
            "c": {"type": ["string", "null"]},
            "loop": {"$ref": "#/properties/loop"},
            "far": {"$ref": "http://example.com/schema"},
        },
        definitions={"deep": {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "array"}}}},
    )
    kinds = {path: made.kind_at(path) for path in ("a", "b", "b.x", "b.y", "c", "d", "a.b", "loop", "far")}
    assert kinds == {
        "a": "string",
        "b": "object",
        "b.x": "integer",
        "b.y": "array",
        "c": "",
        "d": None,
        "a.b": None,
        "loop": "",
        "far": "",
    }
    assert made.indexable("b.x")
    assert not made.indexable("b")
    assert not made.indexable("d")


@pytest.mark.parametrize(
    ("keywords", "instance"),
    [
        ({"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 50 + "b"}),
        ({"$ref": "#"}, {}),
        ({"$ref": "#/definitions/none"}, {}),
        ({"$ref": "http://127.0.0.1:1/schema"}, {}),
        (
            {"$ref": "#/definitions/d0"}
            | {
                "definitions": {f"d{n}": {"allOf": [{"$ref": f"#/definitions/d{n + 1}"}] * 6} for n in range(12)}
                | {"d12": {}}
            },
            {},
        ),
    ],
)
def test_a_schema_made_to_harm_ends_soon(keywords: dict[str, Any], instance: dict[str, Any]) -> None:
    """A stranger's schema must not hold the Hub for hours, nor make it fetch anything."""
    started_s = time.monotonic()
    assert refusal(schema(**keywords), instance)
    assert time.monotonic() - started_s < 60


def test_a_long_list_is_compared_in_linear_time() -> None:
    """Unique items of an instance of some MiB are found unique without comparing each pair."""
    items = [{"n": number} for number in range(20_000)]
    assert refusal(schema(properties={"a": {"uniqueItems": True}}), {"a": items}) == ""
