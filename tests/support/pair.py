"""Two mounts of one bucket on one Hub, each with a home (journal, cache, inode numbers) of its own: two machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.callproxy import CallProxy, Feed
from support.foreground import Foreground
from support.home import Home, Watchdog
from support.served import Account, ServedHub

BUCKET = "shared"


@dataclass(eq=False)
class Pair:
    """Two mounts, ``a`` and ``b``, of the bucket ``BUCKET``. ``proxy`` stands between the Hub and ``b`` when there is one."""

    hub: ServedHub
    account: Account
    a: Foreground
    b: Foreground
    proxy: CallProxy | None
    expected: list[str] = field(default_factory=list)

    @property
    def both(self) -> tuple[Foreground, Foreground]:
        return self.a, self.b

    def expect(self, pattern: str) -> None:
        """Lines of both logs with this regular expression are part of the test."""
        self.expected.append(pattern)

    @contextmanager
    def watched(self, limit_s: float) -> Iterator[None]:
        """Kills both mounts when what is inside takes longer, so that a test fails in place of hanging."""
        with Watchdog(self.a.home, limit_s), Watchdog(self.b.home, limit_s):
            yield

    def settle(self) -> None:
        """Push what is dirty on either side and let both show all of it."""
        for mount in (self.a, self.b, self.a):
            mount.ask("sync")

    def check_logs(self) -> None:
        for mount in self.both:
            mounted = mount.mounted()
            for pattern in self.expected:
                mounted.expect(pattern)
            mounted.check_log()


@dataclass(frozen=True)
class Cost:
    """What a mount had done by some moment; the difference of two is what something cost."""

    calls: Counter[str]
    """Calls to the Hub by method, without the service's name."""
    requests: Counter[str]
    """Requests of the kernel by name."""
    blocks: int
    bytes: int
    """Fetched from the Hub."""

    @classmethod
    def of(cls, mount: Foreground) -> Cost:
        status = mount.ask("status")
        calls = Counter({name.rpartition("/")[2]: count for name, count in status["calls"].items()})
        fetched = status["fetched"]
        return cls(calls, Counter(status["mount"]["requests"]), fetched["blocks"], fetched["bytes"])

    def since(self, before: Cost) -> Cost:
        return Cost(
            self.calls - before.calls,
            self.requests - before.requests,
            self.blocks - before.blocks,
            self.bytes - before.bytes,
        )


@contextmanager
def two_mounts(
    root: Path,
    *,
    new_home: Callable[[Path], Home] = Home,
    options: Sequence[str] = (),
    feed: Feed = Feed.OPEN,
    fill: Callable[[Home], None] = lambda home: None,
) -> Iterator[Pair]:
    """``options`` are those of both mounts; ``feed`` is how ``b`` hears of changes. ``fill`` puts into the bucket what both find
    in it: the home that it is given acts for the account."""
    home = new_home(root / "hub")
    with ExitStack() as stack:
        stack.callback(home.end)
        hub = stack.enter_context(ServedHub(home, home.root / "store"))
        proxy = None if feed is Feed.OPEN else stack.enter_context(CallProxy(hub.address, feed))
        account = hub.account("writer")
        home.extra.update(account.variables())
        home.cli("buck", "create", BUCKET)
        fill(home)
        mounts: list[Foreground] = []
        for name, address in (("a", hub.address), ("b", hub.address if proxy is None else proxy.address)):
            place = new_home(root / name)
            stack.callback(place.end)
            place.extra.update(account.variables() | {"BUCKETFS_HUB": address})
            (place.root / "Buckets").mkdir()
            mounts.append(Foreground.start(place, *options, BUCKET))
        pair = Pair(hub, account, mounts[0], mounts[1], proxy)
        yield pair
        for mount in mounts:
            assert mount.stop() == 0
        pair.check_logs()
