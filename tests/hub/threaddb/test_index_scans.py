"""How the engine of ThreadDB goes through instances: what a query reads, and what happens around it meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support.databaseuser import where
from support.threaddb import THREAD, Engine, opened

from bucketfs.errors import InvalidArgument, TooLarge, Unavailable
from bucketfs.hub.db import Scan
from bucketfs.hub.threaddb import CreateAct

MANY = 20_000


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with opened(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A collection with indexes and many instances: ``n`` is a number each, ``even`` a bool, ``free`` has no index."""
    with opened(tmp_path_factory.mktemp("large")) as found:
        found.define(n=False, even=False, word=False)
        found.create(*({"_id": f"{n:06}", "n": n, "even": n % 2 == 0, "word": f"w{n % 7}", "free": n} for n in range(MANY)))
        yield found


QUICK: list[tuple[dict[str, Any], list[int]]] = [
    ({"ands": [where("n", 0, 12_345)]}, [12_345]),
    ({"ands": [where("n", 2, MANY - 3)]}, [MANY - 2, MANY - 1]),
    ({"ands": [where("n", 3, 2)]}, [0, 1]),
    ({"ands": [where("n", 4, 9_000), where("n", 5, 9_001)]}, [9_000, 9_001]),
    ({"ands": [where("n", 2, 10), where("n", 3, 12), where("free", 2, 0)]}, [11]),
    ({"ands": [where("n", 2, 12), where("n", 3, 10)]}, []),
    ({"ands": [where("even", 0, True), where("n", 0, 8)]}, [8]),
    ({"ands": [where("even", 0, True)], "limit": 2}, [0, 2]),
    ({"ands": [where("even", 0, True)], "seek": "010001", "limit": 1}, [10_002]),
    ({"sort": {"fieldPath": "n"}, "limit": 2}, [0, 1]),
    ({"sort": {"fieldPath": "n", "desc": True}, "skip": 1, "limit": 2}, [MANY - 2, MANY - 3]),
    ({"sort": {"fieldPath": "n", "desc": True}, "ands": [where("n", 3, 500)], "limit": 2}, [499, 498]),
    ({"sort": {"fieldPath": "word", "desc": True}, "limit": 2}, [6, 13]),
    ({"sort": {"fieldPath": "_id", "desc": True}, "limit": 1}, [MANY - 1]),
    ({"ands": [where("_id", 0, "000007")]}, [7]),
    ({"ands": [where("_id", 2, "019998")]}, [MANY - 1]),
    ({"seek": "019999"}, [MANY - 1]),
]


@pytest.mark.parametrize(("query", "found"), QUICK)
def test_an_index_saves_reading_the_collection(large: Engine, query: dict[str, Any], found: list[int]) -> None:
    """A program with a million instances asks for one of them, and must not wait for the others to be read."""
    with large.counting() as work:
        assert [one["n"] for one in large.find(**query)] == found
    assert work.rows <= 400 and work.steps < 40_000, work


def test_a_query_that_no_index_serves_reads_in_parts(large: Engine) -> None:
    """It finds the same, more slowly; a limit ends it early."""
    assert [one["n"] for one in large.find(ands=[where("free", 0, 15_000)])] == [15_000]
    with large.counting() as work:
        assert len(large.find(ands=[where("free", 2, 5)], limit=3)) == 3
    assert work.rows < 200


def test_a_range_over_half_of_all_is_complete(large: Engine) -> None:
    """Batches must not lose or repeat what stands at their seams."""
    assert [one["n"] for one in large.find(ands=[where("n", 2, 9_000)])] == list(range(9_001, MANY))
    even = large.find(ands=[where("even", 0, True), where("n", 3, 15_000)], sort={"fieldPath": "_id", "desc": True})
    assert [one["n"] for one in even] == list(range(14_998, -1, -2))


def test_slow_readers_leave_the_database_to_others(engine: Engine) -> None:
    """Many finds that wait for slow functions must not take all connections, so that nobody else can sign in or save."""
    engine.define()
    engine.create(*({"_id": str(n)} for n in range(300)))
    readers = [engine.table.scan(engine.collection, Scan()) for _ in range(40)]
    for reader in readers:
        next(reader)
    engine.create({"_id": "new"})
    assert all(len(list(reader)) == 300 for reader in readers)


def test_a_write_that_waited_knows_the_index_made_meanwhile(engine: Engine) -> None:
    """Else the instance would be there, and never be found by its field."""
    engine.define()
    before = engine.collection
    engine.redefine(n=False)
    engine.threaddb.write(THREAD, before, [CreateAct({"_id": "1", "n": 5})], None)
    assert len(engine.find(ands=[where("n", 0, 5)])) == 1


def test_a_transaction_does_not_commit_by_an_old_definition(engine: Engine) -> None:
    """Another process of the Hub made an index while this one checked: its entries would be missing."""
    engine.define()
    before = engine.collection
    turn = engine.threaddb.turns.begin(THREAD)
    acts = engine.threaddb.prepared(before, [CreateAct({"_id": "1", "n": 5})])
    engine.redefine_elsewhere(n=True)
    with pytest.raises(Unavailable, match="changed meanwhile"):
        engine.threaddb.commit(turn, [(before, act) for act in acts], None)
    engine.threaddb.turns.end(turn)
    assert engine.find() == []


def test_an_index_is_made_of_many_instances(large: Engine) -> None:
    """Also one that is made late finds everything, and one that cannot be unique leaves all as it was."""
    with pytest.raises(InvalidArgument, match="duplicate instances exist"):
        large.redefine(n=True, even=True, word=False)
    assert [one["n"] for one in large.find(ands=[where("n", 0, 3)])] == [3]


ODD = [
    {"seek": "\ud800"},
    {"seek": "a\0b"},
    {"ands": [{"fieldPath": "n", "operation": 2, "value": {"float": 10**400}}]},
    {"ands": [{"fieldPath": "n", "operation": 0, "value": {"float": float("nan")}}]},
    {"ors": [json.loads('{"ors":[' * 15 + "{}" + "]}" * 15)] * 3, "limit": -1},
]


@pytest.mark.parametrize("query", ODD)
def test_an_odd_query_is_refused(engine: Engine, query: dict[str, Any]) -> None:
    """A client's mistake is told as such, and is no fault of the Hub."""
    engine.define(n=False)
    engine.create({"_id": "1", "n": 1})
    with pytest.raises(InvalidArgument):
        engine.find(**query)


def test_a_query_a_thousand_levels_deep_is_refused(engine: Engine) -> None:
    """It must not overflow the stack."""
    engine.define()
    for deep in (b'{"ors":[' * 1000 + b"{}" + b"]}" * 1000, b"[" * 100_000):
        with pytest.raises(InvalidArgument, match="too deep"):
            engine.threaddb.find(engine.collection, deep, None)


def test_ids_that_no_instance_can_have_find_nothing(engine: Engine) -> None:
    """Half a surrogate pair in a criterion, or a NUL in an id, is not in the collection; that is all."""
    engine.define()
    engine.create({"_id": "a"})
    assert engine.find(ands=[where("_id", 0, "\ud800")]) == []
    assert engine.threaddb.seen(engine.collection, ["a\0", ""], None) == {}


def test_text_longer_than_the_index_keeps_is_compared_in_full(engine: Engine) -> None:
    """Two texts that differ after their first thousand letters are not the same."""
    engine.define(s=False)
    engine.create(*({"_id": end, "s": "x" * 2000 + end} for end in "abc"))
    assert [one["_id"] for one in engine.find(ands=[where("s", 0, "x" * 2000 + "b")])] == ["b"]
    assert [one["_id"] for one in engine.find(ands=[where("s", 2, "x" * 2000 + "a")])] == ["b", "c"]
    down = engine.find(sort={"fieldPath": "s", "desc": True})
    assert [one["_id"] for one in down] == ["c", "b", "a"]


def test_the_path_of_an_index_is_short(engine: Engine) -> None:
    """It is stored once for each instance: a long one would fill the disk at no cost to who made it."""
    with pytest.raises(InvalidArgument, match="path of an index"):
        engine.define(**{"p" * 300: False})


def test_the_tables_have_the_indexes(engine: Engine) -> None:
    """Without them every query would read everything."""
    names = {one["name"] for one in sa.inspect(engine.sql).get_indexes("index_entries")}
    assert names >= {"index_entries_number", "index_entries_text", "index_entries_id"}


def test_a_sort_by_a_field_without_an_index_does_not_hold_the_collection(engine: Engine) -> None:
    """One who sorts a million large instances ended the Hub for all others, for want of memory."""
    engine.define()
    for n in range(35):
        engine.create({"_id": f"{n:02}", "n": -n, "text": "x" * (2 << 20)})
    with pytest.raises(TooLarge, match="sorted by n has more than 32 MiB: ask for less, with a limit"):
        engine.find(sort={"fieldPath": "n"})
    assert [one["n"] for one in engine.find(sort={"fieldPath": "n"}, skip=1, limit=3)] == [-33, -32, -31]
    assert [one["n"] for one in engine.find(sort={"fieldPath": "n", "desc": True}, limit=2)] == [0, -1]
