"""Makes ``tests/samples/VERSION``: what this bucketfs leaves on a disk, for the versions that come after it.

    .venv/bin/python tests/support/make_samples.py [FOLDER]

Run it once per release, in a checkout of that release, as root on a machine that can mount. It drives the real command: a Hub
with accounts, an organization, roles, a private bucket and a link token; a mount that is killed with a backlog; a second one
with deferred changes; a watched folder. What is left is packed as it lies on the disk, beside ``expected.json``, which
says what the next version must find in it. All keys are made for this and are good for nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import keyring, leftovers
from support.bareclient import Caller
from support.callproxy import CallProxy, Feed
from support.foreground import Foreground
from support.home import Home
from support.hubprocess import serving
from support.kernel import EXCHANGE, renameat2
from support.plainclient import PlainClient
from support.waiting import eventually

import bucketfs
from bucketfs.disk import Disk
from bucketfs.journal import Journal, Resources, ops
from bucketfs.keys import Identity

USER = 1234
"""The owner of what is given away."""
SEALED_BYTES = 300_000
CONTESTED = ("both", "both again", "both too")
STEADY_NS = 1_700_000_000_123_456_789
COMMENTED_CONFIG = """# Settings of the last release; this comment is part of the sample.
[mount]
cache_size = "64MiB"    # not much, on purpose
memory_size = "16MiB"
drain = "5s"
"""


def lines(word: str, size_bytes: int) -> bytes:
    """Text that says where it is, and packs well."""
    width = 32
    count = -(-size_bytes // width)
    return b"".join(f"{word} {number:0{width - 2 - len(word)}d}\n".encode() for number in range(count))[:size_bytes]


def facts_of(top: Path) -> dict[str, Any]:
    """What ``stat``, ``readlink`` and ``read`` say of everything below a folder."""
    found: dict[str, Any] = {}
    for parent, folders, files in os.walk(top):
        for name in sorted([*folders, *files]):
            path = Path(parent, name)
            status = path.lstat()
            fact: dict[str, object] = {
                "mode": status.st_mode,
                "uid": status.st_uid,
                "gid": status.st_gid,
                "mtime_ns": status.st_mtime_ns,
                "inode": status.st_ino,
            }
            if path.is_symlink():
                fact["target"] = os.readlink(path)
            elif path.is_file():
                fact["size"] = status.st_size
                fact["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(top))] = fact
    return found


def contents_at_hub(plain: PlainClient, bucket: str) -> dict[str, str]:
    """Path → SHA-256 of each file of a bucket, as the Hub serves it."""
    key = plain.enter(bucket)
    return {
        path: hashlib.sha256(plain.pull_path(key, path)).hexdigest()
        for path, item in plain.walk(key)
        if not item.is_dir and path != ".textileseed"
    }


class SampleProxy(CallProxy):
    """Between the mounts and the Hub: it carries all calls but those of the methods in ``refused``."""

    def __init__(self, target: str) -> None:
        super().__init__(target, Feed.OPEN)
        self.refused: set[str] = set()

    def service(self, details: Any) -> Any:
        """A handler for one call."""
        if details.method.rpartition("/")[2] in self.refused:

            def refuse(requests: Iterator[bytes], context: Any) -> None:
                context.abort(grpc.StatusCode.UNAVAILABLE, "refused for the sample")

            return grpc.stream_unary_rpc_method_handler(refuse)
        return super().service(details)


@contextmanager
def mounted(home: Home, bucket: str, place: Path, *options: str) -> Iterator[Foreground]:
    """A mount, which the caller ends."""
    place.mkdir(exist_ok=True)
    daemon = Foreground.start(home, *options, bucket, place=place)
    try:
        yield daemon
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
        if any(mount.where == place for mount in leftovers.mounts()):
            leftovers.unmount_lazily(place)


def letters_of(home: Home, key: str) -> set[str]:
    """The kinds of record in the newest segment of a bucket's journal, by the letter of their frames."""
    (folder,) = home.state.glob(f"mounts/*/buckets/{key}")
    data = max(folder.glob("segment-*")).read_bytes()
    at = data.index(b"\n") + 1
    found = set()
    while at + 14 <= len(data):
        found.add(chr(data[at + 12]))
        at += 14 + int.from_bytes(data[at : at + 4], "big")
    return found


def bucket_state(daemon: Foreground) -> Any:
    """What ``status`` says of the one bucket of a mount."""
    (bucket,) = daemon.ask("status")["buckets"]
    return bucket


async def add_rare_records(folder: Path) -> None:
    """Add the ops that a mount writes after a partial push, a power loss and a Hub that lost blocks."""
    journal = Journal.open(Disk(), folder, Resources.below(Disk(), folder.parent))
    found, now_ns = journal.recovered, time.time_ns()
    base = found.base
    assert base is not None
    waiting: list[ops.Op] = [
        ops.SetAttributes("folder/inside", 0o600, None, None, None, now_ns),
        ops.Rename("other", "other, moved", False, now_ns),
    ]
    rare = [
        ops.Quarantined(base, len(waiting), now_ns),
        *waiting,
        ops.Lost("made", "made", now_ns),
        ops.Arrived(base, now_ns),
    ]
    journal.checkpoint(base, [*found.ops, *rare])
    await journal.aclose()


class Maker:
    """Makes the samples below ``work`` and packs them into ``out``."""

    def __init__(self, work: Path, out: Path) -> None:
        self.work = work
        self.out = out
        self.home = Home(work / "home")
        self.expected: dict[str, Any] = {"version": bucketfs.__version__}

    def make(self) -> None:
        """All of it."""
        self.embedded()
        with serving(self.home) as hub, SampleProxy(hub) as proxy:
            self.expected["hub"] = proxy.address
            self.accounts(proxy.address)
            with self.account(proxy.address) as plain:
                self.backlog(proxy, plain)
                self.deferred(proxy, plain)
                self.watched(plain)
                self.expected["buckets"] = {
                    name: contents_at_hub(plain, name) for name in ("plans", "secret", "work", "deferred", "mirror")
                }
        self.pack()

    @contextmanager
    def account(self, address: str) -> Iterator[PlainClient]:
        """A client that acts for ann with an account key."""
        keys = self.expected["keys"]
        with PlainClient(address, api_key=keys["account"]["key"], api_secret=keys["account"]["secret"]) as plain:
            yield plain

    def embedded(self) -> None:
        """The embedded Hub, mounted, filled, and left with a change that waits."""
        home, place = self.home, self.home.root / "Embedded"
        home.config.mkdir(parents=True)
        (home.config / "config.toml").write_text(COMMENTED_CONFIG)
        place.mkdir()
        daemon = Foreground.start(home, place=place)
        (place / "home/letters").mkdir()
        (place / "home/letters/first").write_text("Dear reader of old disks")
        (place / "photos").mkdir()
        (place / "photos/one").write_bytes(lines("photo", 40_000))
        daemon.ask("sync")
        self.expected["embedded"] = facts_of(place)
        assert daemon.stop() == 0
        # From here on it is served to others, too.
        (home.root / "hub").symlink_to(home.data / "hub")

    def accounts(self, address: str) -> None:
        """Ann with an organization and three kinds of key, a bucket with roles, a private bucket and its link."""
        home = self.home
        home.cli("hub", "init", "ann", "ann@example.org", "--hub", address)
        home.cli("hub", "org", "create", "Sea Labs")
        home.cli("hub", "key", "create", "--account", "--org", "Sea-Labs", "--save", "sea")
        home.cli("hub", "key", "create", "--user", "--save", "app")
        home.cli("buck", "create", "charts", "--profile", "sea")
        identity = home.root / "alice.key"
        alice = home.cli("hub", "whoami", "--profile", "app", "--identity", identity).stdout.splitlines()[-1]
        home.cli("buck", "create", "notes", "--profile", "app", "--identity", identity)
        home.cli("buck", "create", "plans")
        folder = self.work / "plans"
        (folder / "shared").mkdir(parents=True)
        (folder / "first").write_text("world domination")
        (folder / "shared/list").write_text("milk, eggs")
        home.cli("buck", "push", folder, "plans")
        home.cli("buck", "roles", "grant", "plans/shared", alice, "--role", "writer")
        credentials = home.config / "credentials.toml"
        with PlainClient(address) as plain:
            said = json.loads(json.dumps(_toml(credentials)))
            plain.session = said["default"]["session"]
            key, secret = plain.new_key()
        with grpc.insecure_channel(address) as channel:
            app = keyring.ApiKey(said["app"]["api_key"], said["app"]["api_secret"])
            text = identity.read_text().strip()
            token = keyring.get_token(Caller(channel).using(**app.headers()), Identity.from_text(text))
        self.expected["keys"] = {"account": {"key": key, "secret": secret}, "alice": alice, "token": token}
        self.expected["profiles"] = said
        home.cli("buck", "create", "--private", "secret")
        with self.account(address) as plain:
            private = plain.enter("secret")
            plain.push_paths(private, {"diary/today": b"encrypted at the Hub", "big": lines("secret", 50_000)})
        links = json.loads(home.cli("buck", "links", "secret", "--json").stdout)
        assert "token=" in links["url"]
        self.expected["links"] = links
        credentials.write_text(
            "# Keys of the last release; this comment is part of the sample.\n" + credentials.read_text() + "\n# The end.\n"
        )
        credentials.chmod(0o600)

    def backlog(self, proxy: SampleProxy, plain: PlainClient) -> None:
        """The mount of ``work``: conflicts, every kind of change, seals, and then kill -9."""
        home, place = self.home, self.home.root / "Work"
        self.fill_work()
        home.cli("buck", "create", "work")
        home.cli("buck", "push", self.work / "work", "work")
        key = plain.enter("work")
        with mounted(home, "work", place) as daemon:
            facts_of(place)  # all of it is in the cache now
            self.conflicts(proxy, plain, key, daemon)
            self.rebased_and_proposed(proxy, plain, key, daemon)
            self.changes(place)
            eventually(lambda: bucket_state(daemon)["journal"]["base_waiting"] == 0, "the base is not kept")
            eventually(lambda: "E" in letters_of(home, key), "nothing is sealed", 120)
            with (place / "sealed.bin").open("r+b") as file:  # over sealed bytes: a second draft
                file.seek(100)
                file.write(b"written over sealed bytes")
            self.expected["work"] = {
                "key": key,
                "facts": facts_of(place),
                "conflicts": daemon.ask("status")["conflicts"],
                "letters": sorted(letters_of(home, key)),
            }
            daemon.kill()
        proxy.refused = set()

    def fill_work(self) -> None:
        """What the bucket has at first."""
        folder = self.work / "work"
        for name in ("moved/below", "emptied", "tree/deep", "swap one"):
            (folder / name).mkdir(parents=True)
        for name in (*CONTESTED, "edited", "gone", "moved/a", "moved/below/b", "emptied/c", "tree/deep/d", "cut"):
            (folder / name).write_text(f"{name} as it was at first\n")
        (folder / "swap one/in one").write_text("one")
        (folder / "swap two").write_text("two")
        (folder / "cached").write_bytes(lines("cached", 600_000))
        (folder / "patched").write_bytes(lines("patched", 600_000))
        (folder / "given away").write_text("mine")
        (folder / "link").symlink_to("tree/deep/d")

    def conflicts(self, proxy: SampleProxy, plain: PlainClient, key: str, daemon: Foreground) -> None:
        """Three files change on both sides."""
        proxy.refused = {"SwapRoot"}
        for name in CONTESTED:
            (daemon.place / name).write_text(f"{name} as this machine has it\n")
        plain.push_paths(key, {name: f"{name} as another has it\n".encode() for name in CONTESTED})
        eventually(lambda: len(daemon.ask("status")["conflicts"]) == len(CONTESTED), "no conflict is seen")
        proxy.refused = set()
        self.sync(daemon)

    def rebased_and_proposed(self, proxy: SampleProxy, plain: PlainClient, key: str, daemon: Foreground) -> None:
        """Changes that were moved onto a newer base, written down anew, proposed, and not taken."""
        place = daemon.place
        proxy.refused = {"SwapRoot"}
        os.rename(place / "moved", place / "moved here")
        (place / "moved here/below/b").write_text("changed where it is now")
        plain.push_paths(key, {"elsewhere/new": b"made by another client"})
        eventually(lambda: (place / "elsewhere/new").exists(), "the change from elsewhere is not shown")
        eventually(lambda: "B" in letters_of(self.home, key), "nothing is proposed")
        facts_of(place)
        # From here on the Hub is away.
        proxy.refused = {"SwapRoot", "Put", "Missing", "Get", "Roots", "List", "Root", "Holdings", "Listen"}

    def changes(self, place: Path) -> None:
        """One of each."""
        copies = sorted(path for path in place.iterdir() if "(conflict" in path.name)
        os.rename(copies[0], place / "chosen by renaming")
        self.home.cli("conflicts", copies[1], "--resolve", "keep-both")
        (place / "made/inside").mkdir(parents=True)
        (place / "made/inside/new").write_bytes(lines("new", 5_000))
        (place / "made/empty").write_bytes(b"")
        (place / "made/link").symlink_to("../no such file")
        with (place / "edited").open("a") as file:
            file.write("and a line more\n")
        with (place / "patched").open("r+b") as file:
            file.seek(262_144 + 100)
            file.write(b"in the middle")
        os.truncate(place / "cut", 5)
        with (place / "holes").open("wb") as file:
            file.seek(2_000_000)
            file.write(b"behind a hole")
        (place / "sealed.bin").write_bytes(lines("sealed", SEALED_BYTES))
        os.unlink(place / "gone")
        os.unlink(place / "emptied/c")
        os.rmdir(place / "emptied")
        renameat2(place / "swap one", place / "swap two", EXCHANGE)
        os.rename(place / "tree/deep/d", place / "tree/d")
        os.chmod(place / "tree/d", 0o640)
        os.utime(place / "tree/d", ns=(STEADY_NS, STEADY_NS))
        os.utime(place / "cached", ns=(STEADY_NS, (place / "cached").stat().st_mtime_ns))
        os.chown(place / "given away", USER, USER)
        os.chown(place / "made/inside/new", USER, USER)
        os.chown(place / "made/inside/new", os.getuid(), os.getgid())
        (place / "ünïcödé \U0001f5c2 name").write_text("names are UTF-8")

    def deferred(self, proxy: SampleProxy, plain: PlainClient) -> None:
        """The mount of ``deferred``, killed. Some of its changes wait for blocks that the Hub had lost; the journal itself writes
        these records, and others that only a rare moment writes, behind what the mount left."""
        home, place, folder = self.home, self.home.root / "Deferred", self.work / "deferred"
        (folder / "folder").mkdir(parents=True)
        (folder / "big").write_bytes(lines("deferred", 300_000))
        (folder / "folder/inside").write_text("inside")
        (folder / "other").write_text("other")
        home.cli("buck", "create", "deferred")
        home.cli("buck", "push", folder, "deferred")
        key = plain.enter("deferred")
        proxy.refused = {"SwapRoot"}
        with mounted(home, "deferred", place) as daemon:
            facts_of(place)
            (place / "made").write_text("made here, whole")
            with (place / "big").open("r+b") as file:
                file.seek(280_000)
                file.write(b"a part written here")
            eventually(lambda: "B" in letters_of(home, key), "nothing is proposed")
            facts = facts_of(place)
            daemon.kill()
        (journal,) = home.state.glob(f"mounts/*/buckets/{key}")
        trio.run(add_rare_records, journal)
        proxy.refused = set()
        self.expected["deferred"] = {"key": key, "letters": sorted(letters_of(home, key)), "facts": facts}

    def watched(self, plain: PlainClient) -> None:
        """A folder that ``buck watch`` keeps the same as a bucket."""
        home, top = self.home, self.home.root / "mirror"
        home.cli("buck", "create", "mirror")
        key = plain.enter("mirror")
        # Another client's: without mode and time. Hashed anew here it would be another file.
        plain.push_paths(key, {"plain": b"from a client that knows no times", "folder/theirs": lines("theirs", 30_000)})
        top.mkdir()
        (top / "ours").write_text("made in the folder")
        (top / "folder").mkdir()
        (top / "folder/kept").write_bytes(lines("kept", 20_000))
        for _ in range(2):  # what is as young as the round that looked at it is looked at again
            time.sleep(3)
            home.cli("buck", "watch", "--once", top, "mirror")
        self.expected["mirror"] = {"key": key, "top": str(top), "facts": facts_of(top)}

    def sync(self, daemon: Foreground) -> None:
        """Asked again until it is done: a Hub that refused is asked after a pause."""

        def done() -> bool:
            return self.home.cli("sync", daemon.place, check=False).returncode == 0

        eventually(done, "the changes are not pushed")

    def pack(self) -> None:
        """Hub and home as they lie on the disk, without logs and locks' owners."""
        self.out.mkdir(parents=True, exist_ok=True)
        home = self.home.root
        parts: dict[str, list[Path]] = {
            "hub": [self.home.data / "hub"],
            "home": [self.home.config, self.home.state, self.home.cache, home / "mirror", home / "alice.key"],
        }
        for name, folders in parts.items():
            with tarfile.open(self.out / f"{name}.tar.xz", "w:xz", preset=9) as tar:
                for folder in folders:
                    tar.add(folder, folder.relative_to(home), filter=_kept)
        self.expected["root"] = str(home)
        (self.out / "expected.json").write_text(json.dumps(self.expected, indent=1, sort_keys=True) + "\n")


def _kept(item: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if item.name.endswith((".log", ".sock")) else item


def _toml(path: Path) -> Any:
    import tomllib

    return tomllib.loads(path.read_text())


def main() -> None:
    """See the module."""
    release = ".".join(bucketfs.__version__.split(".")[:2])
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "samples" / release)
    work = Path(tempfile.mkdtemp(prefix="samples-"))
    maker = Maker(work, out)
    try:
        maker.make()
    finally:
        maker.home.end()
        subprocess.run(["rm", "-rf", "--one-file-system", str(work)], check=True)
    for path in sorted(out.iterdir()):
        print(f"{path.stat().st_size:8} {path}")


if __name__ == "__main__":
    main()
