"""How long ThreadDB takes for queries that an index serves, over a million instances.

    .venv/bin/python tests/bench/threaddb.py [INSTANCES]

Prints how long the instances took to store, and the median of each query in milliseconds. Runs in one process, over SQLite in a
temporary folder, without gRPC."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

from support.databaseuser import where  # noqa: E402
from support.threaddb import Engine, opened  # noqa: E402

AT_ONCE = 20_000
ROUNDS = 11


def main() -> None:
    """Store, ask, print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as engine:
        engine.define(n=False, word=False, even=False)
        start_s = time.perf_counter()
        for first in range(0, count, AT_ONCE):
            engine.create(*(instance(n) for n in range(first, min(first + AT_ONCE, count))))
        print(f"{count} instances stored in {time.perf_counter() - start_s:.1f} s", flush=True)
        for name, query in queries(count).items():
            print(f"{milliseconds(engine, query):9.2f} ms  {name}", flush=True)


def instance(n: int) -> dict[str, Any]:
    return {"_id": f"{n:07}", "n": n, "word": f"w{n % 1000}", "even": n % 2 == 0}


def queries(count: int) -> dict[str, dict[str, Any]]:
    """Each with what it asks."""
    return {
        "equal": {"ands": [where("n", 0, count // 2)]},
        "range of 10": {"ands": [where("n", 4, count // 2), where("n", 3, count // 2 + 10)]},
        "half of all, 10 of them": {"ands": [where("even", 0, True)], "limit": 10},
        "range over half, 10 of them": {"ands": [where("n", 2, count // 2)], "limit": 10},
        "text, 10 of them": {"ands": [where("word", 0, "w7")], "limit": 10},
        "sorted, 10 of them": {"sort": {"fieldPath": "n", "desc": True}, "limit": 10},
        "sorted in a range, 10 of them": {"sort": {"fieldPath": "n"}, "ands": [where("n", 2, 5)], "limit": 10},
        "by id": {"ands": [where("_id", 0, f"{count // 2:07}")]},
        "seek, 10 of them": {"seek": f"{count // 2:07}", "limit": 10},
    }


def milliseconds(engine: Engine, query: dict[str, Any]) -> float:
    """The median."""
    taken_ms = []
    for _ in range(ROUNDS):
        start_s = time.perf_counter()
        engine.find(**query)
        taken_ms.append((time.perf_counter() - start_s) * 1000)
    return statistics.median(taken_ms)


if __name__ == "__main__":
    main()
