"""ThreadDB against a naive model: random transactions, then random queries, with random indexes."""

from __future__ import annotations

import operator
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.databaseuser import where
from support.threaddb import THREAD, Engine, opened

from bucketfs.errors import Exists, InvalidArgument
from bucketfs.hub.threaddb import Act, CreateAct, DeleteAct, SaveAct

Document = dict[str, Any]
Model = dict[str, Document]

HOLDS: list[Callable[[Any, Any], bool]] = [operator.eq, operator.ne, operator.gt, operator.lt, operator.ge, operator.le]
IDS = ["", "0", "a", "aa", "ab", "b", "é", "\U0001f600", "z" * 20]
NUMBERS = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, -0.0, 2**60, 1e300]))
WORDS = st.sampled_from(["", "a", "b", "ab", "a\u20ac", "\U0001f600", "\uffff", "B"])
FIELDS: dict[str, st.SearchStrategy[Any]] = {"n": NUMBERS, "even": st.booleans(), "word": WORDS}

documents = st.fixed_dictionaries({"_id": st.sampled_from(IDS[1:]), **FIELDS})
acts = st.one_of(st.builds(CreateAct, documents), st.builds(SaveAct, documents), st.builds(DeleteAct, st.sampled_from(IDS)))
criteria = st.sampled_from(["_id", *FIELDS]).flatmap(
    lambda path: st.builds(where, st.just(path), st.integers(0, 5), FIELDS.get(path, st.sampled_from(IDS)))
)
queries = st.fixed_dictionaries(
    {},
    optional={
        "ands": st.lists(criteria, max_size=3),
        "ors": st.lists(st.fixed_dictionaries({"ands": st.lists(criteria, min_size=1, max_size=2)}), max_size=2),
        "sort": st.fixed_dictionaries({"fieldPath": st.sampled_from(["_id", *FIELDS]), "desc": st.booleans()}),
        "seek": st.sampled_from(IDS),
        "skip": st.integers(0, 2),
        "limit": st.integers(0, 4),
    },
)
indexes = st.dictionaries(st.sampled_from(list(FIELDS)), st.just(False))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    indexes,
    indexes,
    st.booleans(),
    st.lists(st.lists(acts, min_size=1, max_size=6), max_size=8),
    st.lists(queries, min_size=1, max_size=12),
)
def test_what_is_found_is_what_was_stored(
    first: dict[str, bool],
    then: dict[str, bool],
    unique: bool,
    transactions: list[list[Act]],
    asked: list[Document],
) -> None:
    """Whatever a program stores, in whichever order and with whichever indexes, its queries find that and nothing else."""
    model: Model = {}
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as engine:
        engine.define(**({**first, "n": True} if unique else first))
        for transaction in transactions:
            model = committed(engine, model, transaction, unique=unique)
        for _ in range(2):
            for query in asked:
                found = [{**one, "_mod": 0} for one in engine.find(**query)]
                assert found == [{**one, "_mod": 0} for one in expected(model, query)], query
            engine.redefine(**then)


def committed(engine: Engine, model: Model, transaction: list[Act], *, unique: bool) -> Model:
    """The model after a transaction, which the engine must accept or refuse as the model does."""
    after: Model | None = dict(model)
    for act in transaction:
        after = applied(after, act)
    if after is not None and unique and len({float(one["n"]) for one in after.values()}) < len(after):
        after = None
    try:
        turn = engine.threaddb.turns.begin(THREAD)
        collection = engine.collection
        engine.threaddb.commit(turn, [(collection, act) for act in transaction], None)
    except (InvalidArgument, Exists):
        assert after is None
        return model
    finally:
        engine.threaddb.turns.end(turn)
    assert after is not None
    return after


def applied(model: Model | None, act: Act) -> Model | None:
    """``None`` where the transaction must fail."""
    if model is None:
        return None
    if isinstance(act, DeleteAct):
        return {name: one for name, one in model.items() if name != act.id}
    if isinstance(act, CreateAct) and act.instance["_id"] in model:
        return None
    return {**model, act.instance["_id"]: act.instance}


def expected(model: Model, query: Document) -> list[Document]:
    """The naive way: all, filtered, sorted, cut."""
    sort = query.get("sort", {"fieldPath": "_id", "desc": False})
    path, down, seek = sort["fieldPath"], sort["desc"], query.get("seek", "")
    by_id_down = path == "_id" and down
    found = [model[name] for name in sorted(model, key=str.encode, reverse=by_id_down)]
    if seek:
        found = [one for one in found if (one["_id"] <= seek if by_id_down else one["_id"] >= seek)]
    found = [one for one in found if holds(one, query)]
    if path != "_id":
        found.sort(key=lambda one: one[path], reverse=down)
    limit = query.get("limit", 0)
    return found[query.get("skip", 0) :][: limit or None]


def holds(document: Document, query: Document) -> bool:
    ands = query.get("ands", [])
    mine = all(HOLDS[one["operation"]](document[one["fieldPath"]], next(iter(one["value"].values()))) for one in ands)
    return mine or any(holds(document, inner) for inner in query.get("ors", []))
