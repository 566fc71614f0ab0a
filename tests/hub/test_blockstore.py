"""The block store: what goes in comes out unchanged or not at all, and survives what it promises to survive."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bucketfs.dag import DAG_PB, RAW, cid_of, multihash_of
from bucketfs.errors import Corrupt, NoSpace, NotFound, Unsupported
from bucketfs.hub.store import packs
from bucketfs.hub.store.blockindex import LEASE_BYTES_FREE, BlockIndex, leased, pack_multihashes, unpack_multihashes
from bucketfs.hub.store.disk_store import DiskBlockStore
from bucketfs.hub.store.group_commit import SMALL_MAX
from bucketfs.types import Cid

LARGE = SMALL_MAX * 4


def blocks_of(count: int, size: int, seed: bytes = b"") -> dict[Cid, bytes]:
    bodies = [seed + index.to_bytes(8, "big") + os.urandom(8) * (size // 8) for index in range(count)]
    return {cid_of(body[:size]): body[:size] for body in bodies}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskBlockStore]:
    store = DiskBlockStore(tmp_path / "blocks")
    yield store
    store.close()


@pytest.mark.parametrize("size", [0, 1, SMALL_MAX - 1, SMALL_MAX, LARGE])
def test_what_is_put_is_got(store: DiskBlockStore, size: int) -> None:
    """A block of some size would come back with other bytes, or not at all."""
    body = b"x" * size
    cid = cid_of(body)
    assert store.missing([cid]) == [cid]
    with pytest.raises(NotFound):
        store.get(cid)
    counts = store.put_many({cid: body})
    assert (counts.blocks_received, counts.blocks_stored, counts.bytes_stored) == (1, 1, size)
    assert store.missing([cid]) == []
    assert store.get(cid) == body
    again = store.put_many({cid: body})
    assert (again.blocks_received, again.blocks_stored, again.bytes_stored) == (1, 0, 0)


def test_a_block_is_named_by_its_multihash(store: DiskBlockStore) -> None:
    """A client that spells a CID in another version would be told that the block is missing, and send it again."""
    body = b"\x0a\x02\x08\x01"
    store.put_many({cid_of(body, DAG_PB): body})
    others = [cid_of(body, RAW), cid_of(body, DAG_PB, 0)]
    assert store.missing(others) == []
    assert store.get_many(others) == dict.fromkeys(others, body)


def test_identity_cids_are_never_stored(store: DiskBlockStore) -> None:
    """Files so small that their CID contains them could not be read."""
    inline = Cid(b"\x01\x55\x00\x03abc")
    assert store.get(inline) == b"abc"
    assert store.missing([inline]) == []
    assert store.put_many({inline: b"abc"}).blocks_stored == 0
    with pytest.raises(Corrupt):
        store.put_many({inline: b"abd"})


def test_a_wrong_hash_stores_nothing_of_its_batch(store: DiskBlockStore) -> None:
    """A client could plant bytes under the name of other content, and all buckets would show them."""
    good = blocks_of(3, LARGE)
    wrong = cid_of(b"something else")
    with pytest.raises(Corrupt):
        store.put_many([*good.items(), (wrong, b"not that")])
    assert store.missing([*good, wrong]) == [*good, wrong]


def test_blocks_survive_reopening(tmp_path: Path) -> None:
    """A restart of the Hub would lose blocks, or begin a new pack each time."""
    blocks = blocks_of(20, LARGE) | blocks_of(20, 100)
    first = DiskBlockStore(tmp_path)
    first.put_many(blocks)
    first.close()
    second = DiskBlockStore(tmp_path)
    assert second.get_many(list(blocks)) == blocks
    figures = second.figures()
    assert (figures.blocks, figures.packs) == (40, 1)
    assert figures.bytes == sum(map(len, blocks.values()))
    more = blocks_of(2, LARGE)
    second.put_many(more)
    assert second.figures().packs == 1, "the half full pack is gone on with"
    assert second.get_many([*blocks, *more]) == blocks | more
    second.close()


def test_what_was_not_finished_is_cut_off_after_a_crash(tmp_path: Path) -> None:
    """After a crash of the Hub a half-written block would be served as a whole one, or damage its neighbours."""
    crashed = DiskBlockStore(tmp_path)
    kept = blocks_of(4, LARGE)
    crashed.put_many(kept)
    lost = blocks_of(4, LARGE)
    receiving = crashed.receive()
    receiving.put(lost)
    assert crashed.get_many(list(lost)) == lost, "readers of the process see it before it is durable"
    pack = packs.pack_path(tmp_path, 1)
    assert pack.stat().st_size == 8 * LARGE
    # What a crash leaves: the files as they are, no lock, none of the memory.
    assert crashed._commit._pack is not None
    crashed._commit._pack.close()
    after = DiskBlockStore(tmp_path)
    assert after.missing([*kept, *lost]) == list(lost)
    more = blocks_of(1, LARGE)
    after.put_many(more)
    assert pack.stat().st_size == 5 * LARGE
    assert after.get_many([*kept, *more]) == kept | more
    after.close()
    crashed._commit._pack = None
    crashed._commit._filling.large.clear()
    crashed._commit._filling.writers.clear()
    crashed.close()


def test_two_processes_append_to_packs_of_their_own(tmp_path: Path) -> None:
    """A Hub and a collector at work at once would write over each other's blocks."""
    one, other = DiskBlockStore(tmp_path), DiskBlockStore(tmp_path)
    mine, theirs = blocks_of(3, LARGE), blocks_of(3, LARGE)
    one.put_many(mine)
    other.put_many(theirs)
    one.put_many(theirs)
    assert one.get_many([*mine, *theirs]) == other.get_many([*mine, *theirs]) == mine | theirs
    assert one.figures().packs == 2
    one.close()
    other.close()


def test_packs_are_closed_when_full(tmp_path: Path) -> None:
    """The Hub would keep all blocks in one file, which cannot be given back when a part of it is garbage."""
    store = DiskBlockStore(tmp_path, pack_bytes_max=4 * LARGE)
    blocks = blocks_of(20, LARGE)
    for cid, body in blocks.items():
        store.put_many({cid: body})
    with store.receive() as receiving:
        more = blocks_of(20, LARGE)
        for cid, body in more.items():
            receiving.put({cid: body})
        receiving.finish()
    assert store.figures().packs == 10
    assert store.get_many([*blocks, *more]) == blocks | more
    store.close()


@pytest.mark.parametrize("size", [100, LARGE])
def test_damage_is_noticed_told_and_mended(tmp_path: Path, size: int) -> None:
    """Damage on the disk would be served as good content, and no client would be asked to send the block again."""
    store = DiskBlockStore(tmp_path)
    blocks = blocks_of(3, size)
    store.put_many(blocks)
    victim = list(blocks)[1]
    if size < SMALL_MAX:
        with sqlite3.connect(tmp_path / "index.sqlite") as connection:
            connection.execute("UPDATE small SET data = zeroblob(100) WHERE id = 2")
    else:
        with open(packs.pack_path(tmp_path, 1), "r+b") as pack:
            pack.seek(LARGE + 17)
            pack.write(b"rot")
    for _ in range(2):
        with pytest.raises(Corrupt):
            store.get(victim)
    assert store.missing(list(blocks)) == [victim], "who has it is asked to bring it back"
    assert store.figures().blocks_damaged == 1
    assert store.put_many(blocks).blocks_stored == 1
    assert store.get_many(list(blocks)) == blocks
    store.close()


def test_a_cut_pack_is_damage_too(tmp_path: Path) -> None:
    """A block at the end of a shortened file would be served cut off."""
    store = DiskBlockStore(tmp_path)
    blocks = blocks_of(2, LARGE)
    store.put_many(blocks)
    os.truncate(packs.pack_path(tmp_path, 1), LARGE + 5)
    with pytest.raises(Corrupt):
        store.get(list(blocks)[1])
    store.close()


def test_full_disk_before_the_write(tmp_path: Path) -> None:
    """The Hub would use up the last bytes of the disk, and could not even delete any more."""
    store = DiskBlockStore(tmp_path, reserve_bytes=1 << 62)
    blocks = blocks_of(2, LARGE)
    with pytest.raises(NoSpace):
        store.put_many(blocks)
    assert store.missing(list(blocks)) == list(blocks)
    store.close()


def test_full_disk_in_the_middle_of_a_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk would leave half-written blocks that count as stored."""
    store = DiskBlockStore(tmp_path)
    kept = blocks_of(2, LARGE)
    store.put_many(kept)
    real = os.pwritev
    room = [LARGE + 100]

    def full_soon(descriptor: int, pieces: list[bytes], offset: int) -> int:
        flat = b"".join(pieces)[: room[0]]
        room[0] -= len(flat)
        if not flat:
            raise OSError(28, "No space left on device")
        return real(descriptor, [flat], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", full_soon)
        patch.setattr(os, "pwrite", lambda descriptor, piece, offset: full_soon(descriptor, [bytes(piece)], offset))
        lost = blocks_of(3, LARGE)
        with pytest.raises(NoSpace):
            store.put_many(lost)
    assert packs.pack_path(tmp_path, 1).stat().st_size == 2 * LARGE
    assert store.missing([*kept, *lost]) == list(lost)
    store.put_many(lost)
    assert store.get_many([*kept, *lost]) == kept | lost
    store.close()


def test_a_batch_that_cannot_become_durable_fails_for_everyone_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client would be told of success for blocks that were never durable, because another client's call failed."""
    store = DiskBlockStore(tmp_path)
    shared, mine = blocks_of(1, 50), blocks_of(1, 60)
    one, other = store.receive(), store.receive()
    one.put(shared | mine)
    other.put(shared)

    def full(self: BlockIndex, *_: object) -> None:
        raise NoSpace("full")

    with monkeypatch.context() as patch:
        patch.setattr(BlockIndex, "add", full)
        with pytest.raises(NoSpace):
            one.finish()
    with pytest.raises(NoSpace):
        other.finish()
    assert store.missing([*shared, *mine]) == [*shared, *mine]
    store.put_many(shared | mine)
    assert store.missing([*shared, *mine]) == []
    store.close()


def test_many_threads_put_and_get_the_same(store: DiskBlockStore) -> None:
    """Clients that push the same files at the same time would lose or double blocks."""
    blocks = blocks_of(60, LARGE) | blocks_of(60, 300)
    names = list(blocks)
    failures: list[BaseException] = []

    def work(turn: int) -> None:
        try:
            mine = names[turn * 10 :] + names[: turn * 10]
            with store.receive() as receiving:
                for start in range(0, len(mine), 7):
                    part = mine[start : start + 7]
                    receiving.put({cid: blocks[cid] for cid in part})
                    assert store.get_many(part) == {cid: blocks[cid] for cid in part}
                receiving.finish()
            assert store.missing(names) == []
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(turn,)) for turn in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.figures().blocks == len(blocks)


WRITER = """
import os, sys
from pathlib import Path
from bucketfs.dag import cid_of
from bucketfs.hub.store.disk_store import DiskBlockStore
store = DiskBlockStore(Path(sys.argv[1]), pack_bytes_max=1 << 20)
number = 0
while True:
    bodies = [b"%d:%d" % (number, index) * 20 + bytes(size) for index, size in enumerate((0, 100, 20_000, 300_000))]
    store.put_many([(cid_of(body), body) for body in bodies])
    os.write(1, b"".join(cid_of(body) for body in bodies))
    number += 1
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    """A client deletes what the Hub acknowledged; after a kill of the Hub it would be nowhere."""
    acknowledged: list[Cid] = []
    for acks in (3, 17, 29):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        for _ in range(acks):
            acknowledged += [Cid(writer.stdout.read(36)) for _ in range(4)]
        writer.kill()
        rest = writer.stdout.read()
        acknowledged += [Cid(rest[start : start + 36]) for start in range(0, len(rest), 36)]
        writer.stdout.close()
        writer.wait()
        store = DiskBlockStore(tmp_path)
        found = store.get_many(acknowledged)
        assert set(found) == set(acknowledged)
        assert store.missing(acknowledged) == []
        store.close()


def test_leases_are_counted_and_released(tmp_path: Path) -> None:
    """Blocks of a push in progress would be collected, or those of an abandoned one kept for ever."""
    now = [10**18]
    store = DiskBlockStore(tmp_path, now_ns=lambda: now[0], lease_s=100)
    blocks = blocks_of(3, 100)
    store.missing(list(blocks), b"upload-0")
    assert store.figures().uploads == 0, "what is not here cannot be held on to"
    store.put_many(blocks, upload=b"upload-2")
    store.missing(list(blocks), b"upload-1")
    assert store.figures().uploads == 2
    now[0] += 50 * 10**9
    store.lease(b"upload-1", ())
    now[0] += 60 * 10**9
    assert store.figures().uploads == 1
    store.release(b"upload-1")
    assert store.figures().uploads == 0
    store.close()


def test_an_upload_that_names_the_same_blocks_again_and_again(tmp_path: Path) -> None:
    """Its lease does not grow with the calls, and holds all of them."""
    store = DiskBlockStore(tmp_path)
    blocks = blocks_of(2000, 50)
    store.put_many(blocks)
    for _ in range(100):
        assert store.missing(list(blocks), b"upload") == []
    with store.index.writing() as connection:
        held = connection.execute("SELECT sum(length(multihashes)) FROM leases WHERE upload = ?", (b"upload",)).fetchone()[0]
        assert held < 2 * LEASE_BYTES_FREE
        assert leased(connection, store.now_ns()) >= set(map(multihash_of, blocks))
    store.close()


def test_multihashes_of_any_length_pack(store: DiskBlockStore) -> None:
    """The list of blocks of an upload would be read back with other names, and the wrong ones be kept."""
    names = [b"", b"a", multihash_of(cid_of(b"x")), b"b" * 131]
    assert unpack_multihashes(pack_multihashes(names)) == names


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    """An older version of the Hub would damage data that a newer one wrote."""
    DiskBlockStore(tmp_path).close()
    with sqlite3.connect(tmp_path / "index.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(Unsupported):
        DiskBlockStore(tmp_path)
