"""A Hub that dies, is away, slow, cut off, or answers errors: whoever writes into the mount never notices, and nothing is
lost; when the Hub is well again it has what the mount has."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from support import acknowledged, trees
from support.foreground import Foreground
from support.home import Home, Watchdog
from support.proxy import Proxy, Weather
from support.served import Account, ServedHub, free_address
from support.writing import Writing, assert_as_written, at_the_hub

from bucketfs.errors import BucketfsError

BUCKET = "trouble"
MIB = 1 << 20

IN_FLIGHT_BYTES = 3 * MIB
"""What a cut may cost at most: what gRPC and the sockets of both sides hold, and messages whose answer did not come."""


@dataclass(eq=False)
class Scene:
    """A Hub, the bad connection to it, and a mount behind that."""

    home: Home
    hub: ServedHub
    account: Account
    proxy: Proxy
    daemon: Foreground

    @property
    def folder(self) -> Path:
        return self.daemon.place

    def sync(self, limit_s: float = 90) -> int:
        """Ask until all of it is at the Hub. Returns how often the Hub had to be tried in vain."""
        deadline, failures = time.monotonic() + limit_s, 0
        while True:
            try:
                self.daemon.ask("sync")
                return failures
            except BucketfsError as error:
                failures += 1
                assert time.monotonic() < deadline, f"not at the Hub after {limit_s} s and {failures} tries: {error}"

    def at_the_hub(self) -> acknowledged.Tree:
        with self.account.plain() as plain:
            return at_the_hub(plain, BUCKET)

    def assert_all_is_well(self) -> None:
        status = self.daemon.ask("status")
        assert status["pending_count"] == 0 and status["error"] is None
        assert status["conflicts"] == [], "a single writer is in conflict with nobody"
        mounted = self.daemon.mounted()
        mounted.expect("changes wait here: ")
        mounted.expect("would pass a limit of the Hub")
        mounted.check_log()


@pytest.fixture(scope="module")
def shared(new_home: Callable[..., Home]) -> Iterator[Scene]:
    home = new_home()
    with ServedHub(home, home.root / "hub") as hub, Proxy(hub.address, seed=7) as proxy:
        account = hub.account("writer")
        home.extra.update(account.variables())
        home.cli("buck", "create", BUCKET)
        (home.root / "Buckets").mkdir()
        home.extra["BUCKETFS_HUB"] = proxy.address
        daemon = Foreground.start(home, BUCKET)
        yield Scene(home, hub, account, proxy, daemon)
        assert daemon.stop() == 0


@pytest.fixture
def scene(shared: Scene, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """Everything well, and the bucket empty; a mount that hangs is killed shortly before the test's time is up."""
    marker = request.node.get_closest_marker("timeout")
    with Watchdog(shared.home, float(marker.args[0]) * 0.85):
        for path in shared.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shared.sync()
        yield shared
        shared.proxy.weather, shared.proxy.target = Weather(), shared.hub.address


def rsync(source: Path, target: Path) -> str:
    done = subprocess.run(["rsync", "-a", f"{source}/", f"{target}/"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def check_rsync_over_cuts(scene: Scene, big_bytes: int, lives_bytes: tuple[int, int]) -> None:
    """No connection lives long enough for the big file, so it arrives only if what came through is not sent again."""
    source = scene.home.root / "source"
    shutil.rmtree(source, ignore_errors=True)
    trees.standard_library(source, whole=False)
    trees.write_random(source / "big", big_bytes, seed=5)
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    scene.proxy.change(cut_after_bytes=lives_bytes)
    scene.proxy.cut()
    before, cuts_before = scene.proxy.up_bytes, scene.proxy.cuts
    assert rsync(source, scene.folder / "") == ""
    failures = scene.sync()
    sent, cuts = scene.proxy.up_bytes - before, scene.proxy.cuts - cuts_before
    assert failures > 0 and cuts >= big_bytes // lives_bytes[1], "nothing was cut"
    assert sent < size * 1.1 + (cuts + 1) * IN_FLIGHT_BYTES, f"{sent} bytes for {size} in {cuts} cuts"
    assert scene.at_the_hub() == acknowledged.look(source)
    scene.assert_all_is_well()


@pytest.mark.timeout(180)
def test_rsync_over_a_connection_that_is_cut(scene: Scene) -> None:
    """rsync into a mount would fail, or files would be incomplete at the Hub, when the connection breaks."""
    check_rsync_over_cuts(scene, 10 * MIB, (2 * MIB, 4 * MIB))


@pytest.mark.whole
@pytest.mark.timeout(900)
def test_rsync_over_a_connection_that_is_cut_whole(scene: Scene) -> None:
    """The same for a tree of 256 MiB: a long push would never end, or lose files, over a bad connection."""
    check_rsync_over_cuts(scene, 256 * MIB, (4 * MIB, 24 * MIB))


def check_random_writer(scene: Scene, seed: int, trouble: Callable[[random.Random], None], times: int) -> None:
    """``trouble`` befalls the Hub again and again while the writer writes and pushes are asked for."""
    chance = random.Random(seed)
    writing = Writing(scene.folder, scene.home.root / "written.log", seed).start()
    with ThreadPoolExecutor(1) as background:
        for _ in range(times):
            time.sleep(chance.uniform(0.1, 0.5))
            asked = background.submit(_ask_sync, scene.daemon)
            time.sleep(chance.uniform(0, 0.3))
            trouble(chance)
            asked.result()
    writing.stop()
    assert_as_written(writing.model, acknowledged.look(scene.folder), "in the mount")
    scene.proxy.weather = Weather()
    scene.sync()
    assert_as_written(writing.model, scene.at_the_hub(), "at the Hub")
    assert_as_written(writing.model, acknowledged.look(scene.folder), "in the mount, in the end")
    scene.assert_all_is_well()


def _ask_sync(daemon: Foreground) -> None:
    with suppress(BucketfsError):  # that it fails is what this is about
        daemon.ask("sync")


@pytest.mark.timeout(180)
def test_random_writer_while_the_hub_is_killed(scene: Scene) -> None:
    """A program would see errors, or lose writes, while the Hub is killed and restarted."""

    def kill(chance: random.Random) -> None:
        scene.hub.kill()
        time.sleep(chance.uniform(0, 0.5))
        scene.hub.start()

    check_random_writer(scene, 11, kill, times=3)


@pytest.mark.timeout(180)
def test_random_writer_over_a_connection_that_is_cut(scene: Scene) -> None:
    """A program would see errors, or lose writes, while the connection to the Hub breaks again and again."""
    scene.proxy.change(cut_after_bytes=(1000, 2 * MIB), delay_s=(0, 0.01))
    check_random_writer(scene, 12, lambda chance: scene.proxy.cut(), times=12)


@pytest.mark.whole
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(20, 26))
def test_random_writer_while_the_hub_is_in_trouble_whole(scene: Scene, seed: int) -> None:
    """The same with kills, cuts and delays mixed over a long time: a rare order of them would lose writes."""

    def anything(chance: random.Random) -> None:
        if chance.random() < 0.4:
            scene.hub.kill()
            time.sleep(chance.uniform(0, 1))
            scene.hub.start()
        elif chance.random() < 0.5:
            scene.proxy.cut()
        else:
            limits = chance.choice([(100, 20_000), (10_000, 1 * MIB), (1 * MIB, 8 * MIB)])
            scene.proxy.weather = Weather(cut_after_bytes=limits, delay_s=(0, chance.choice([0, 0.05])))

    check_random_writer(scene, seed, anything, times=25)


@pytest.mark.timeout(120)
def test_a_slow_hub_slows_nobody_down(scene: Scene) -> None:
    """Saving a file would take as long as sending it over a slow line."""
    scene.proxy.change(delay_s=(0.05, 0.15), bytes_per_s=500_000)
    began = time.monotonic()
    for number in range(50):
        (scene.folder / f"f{number}").write_bytes(random.Random(number).randbytes(20_000))
    (scene.folder / "f0").rename(scene.folder / "g0")
    names = sorted(path.name for path in scene.folder.iterdir())
    took_s = time.monotonic() - began
    assert names == sorted(["g0", *(f"f{number}" for number in range(1, 50))])
    assert took_s < 2.0, f"1 MB of local writes took {took_s:.1f} s beside a slow Hub"
    scene.sync()
    assert len(scene.at_the_hub()) == 50
    scene.assert_all_is_well()


@contextmanager
def grumpy_hub(code: grpc.StatusCode, details: str) -> Iterator[str]:
    """A server at the Hub's place that answers every call with one and the same error."""

    class Answer(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details_of_call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            def refuse(request: object, context: grpc.ServicerContext) -> None:
                context.abort(code, details)

            return grpc.stream_stream_rpc_method_handler(refuse)

    server = grpc.server(ThreadPoolExecutor(4), handlers=(Answer(),))
    address = free_address()
    assert server.add_insecure_port(address)
    server.start()
    try:
        yield address
    finally:
        server.stop(0).wait()


@pytest.mark.timeout(120)
def test_a_hub_that_answers_errors(scene: Scene) -> None:
    """An error of the Hub would reach programs, lose the change, go unmentioned in `status`, or stop pushes after it has
    passed."""
    (scene.folder / "before").write_text("1")
    scene.sync()
    answers = [
        (grpc.StatusCode.INTERNAL, "something broke"),
        (grpc.StatusCode.UNKNOWN, "who knows"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "bucket size limit reached"),
        (grpc.StatusCode.UNAVAILABLE, "come back later"),
        (grpc.StatusCode.UNAUTHENTICATED, "API key not found or is invalid"),
        (grpc.StatusCode.PERMISSION_DENIED, "permission denied"),
        (grpc.StatusCode.NOT_FOUND, "instance not found"),
        (grpc.StatusCode.UNIMPLEMENTED, "unknown service"),
    ]
    for number, (code, details) in enumerate(answers):
        with grumpy_hub(code, details) as address:
            scene.proxy.target = address
            scene.proxy.cut()
            (scene.folder / f"during {number}").write_bytes(b"x" * number)
            with pytest.raises(BucketfsError):
                scene.daemon.ask("sync")
            said = scene.daemon.ask("status")["error"]
            assert said, "status does not say why changes wait"
            assert (scene.folder / "before").read_text() == "1"
        scene.proxy.target = scene.hub.address
        scene.proxy.cut()
    scene.sync()
    wanted = {"before": b"1"} | {f"during {number}": b"x" * number for number in range(len(answers))}
    assert scene.at_the_hub() == acknowledged.look(scene.folder) == wanted
    scene.assert_all_is_well()


@pytest.mark.timeout(120)
def test_a_hub_that_is_frozen_and_comes_back(scene: Scene) -> None:
    """The connection stays, and nothing passes: cached things and writes go on, and everything arrives once it thaws."""
    (scene.folder / "before").write_text("1")
    scene.sync()
    scene.proxy.change(freeze=True)
    (scene.folder / "during").write_text("2")
    began = time.monotonic()
    assert sorted(path.name for path in scene.folder.iterdir()) == ["before", "during"]
    assert (scene.folder / "before").read_text() == "1"
    assert time.monotonic() - began < 1
    time.sleep(3)  # the push is under way, and waits
    scene.proxy.change(freeze=False)
    scene.sync()
    assert scene.at_the_hub() == {"before": b"1", "during": b"2"}
    scene.assert_all_is_well()
