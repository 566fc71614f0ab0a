"""Histories of a journal, played on a disk that may stop at any call, and what must be true afterwards.

The model is a list of states (base and ops): the journal promises that a crash leaves one of them, not before the last
one a sync acknowledged and, after a mere kill, not before the last one acknowledged at all. For drafts it holds, byte by
byte, what may be read back.
"""

from __future__ import annotations

from contextlib import suppress

import trio
from support.faulty_disk import FaultyDisk, Stopped

from bucketfs.disk import Disk
from bucketfs.journal import Extents, Journal, Resources
from bucketfs.journal.ops import Create, Op, Place, SetContent
from bucketfs.types import Cid, DraftId, Inode

FOLDER = "/state/journal"
RESERVE_BYTES = 64

Step = tuple[str, *tuple[int, ...]]
State = tuple[Cid | None, tuple[Op, ...]]


LAST = Create("last", Inode(1), 0o644, None, None, 1, 1)


def open_journal(disk: Disk) -> Journal:
    """The journal of the histories, with a reserve of a few bytes beside it."""
    return Journal.open(disk, FOLDER, Resources.below(disk, "/state", RESERVE_BYTES))


def cid(number: int) -> Cid:
    return Cid(b"\x01\x70\x12\x20" + number.to_bytes(32, "big"))


class Model:
    """What was asked for and acknowledged. ``last`` and ``synced`` index ``states``; a state behind ``last`` was attempted.

    ``draft_bytes`` is what each draft holds; ``draft_choices`` what each of its bytes may be after a power loss.
    """

    def __init__(self) -> None:
        self.states: list[State] = [(None, ())]
        self.last = 0
        self.synced = 0
        self.draft_bytes: dict[DraftId, dict[int, int]] = {}
        self.draft_choices: dict[DraftId, dict[int, set[int]]] = {}
        self.writing: tuple[DraftId, int, bytes] | None = None
        self.power_lost = False  # and nobody has recovered yet
        self.lost_before: list[SetContent] = []  # still in the segment, and left out at every start
        self.sealed: set[SetContent] = set()  # their bytes are durable
        self.seals: set[SetContent] = set()  # the journal has their sums, unless a power loss takes them

    def attempt(self, state: State) -> None:
        del self.states[self.last + 1 :]
        self.states.append(state)

    def acknowledge(self) -> None:
        self.last = len(self.states) - 1

    def attempt_write(self, draft: DraftId, offset: int, data: bytes) -> None:
        self.writing = (draft, offset, data)
        for at, byte in enumerate(data, offset):
            self.draft_choices.setdefault(draft, {}).setdefault(at, {0}).add(byte)

    def acknowledge_write(self) -> None:
        assert self.writing is not None
        draft, offset, data = self.writing
        self.draft_bytes.setdefault(draft, {}).update(enumerate(data, offset))
        self.writing = None

    def acknowledge_sync(self) -> None:
        self.synced = self.last
        for op in contents(self.states[self.last]):
            self.draft_choices[op.draft] = {at: {byte} for at, byte in self.draft_bytes.get(op.draft, {}).items()}

    def acknowledge_seal(self) -> None:
        """All bytes that are recorded are durable, whatever becomes of records."""
        for op in contents(self.states[self.last]):
            self.sealed.add(op)
            self.seals.add(op)
            for start, stop in op.extents:
                for at in range(start, stop):
                    self.draft_choices[op.draft][at] = {self.draft_bytes[op.draft][at]}

    def restart(self, state: State, journal: Journal) -> None:
        """After a power loss the next process begins with what was recovered, and all of that is durable."""
        self.states = [state]
        self.last = self.synced = 0
        self.writing = None
        self.power_lost = False
        self.lost_before = journal.recovered.unbacked
        self.seals.clear()
        drafts = {op.draft for op in contents(state)}
        self.draft_bytes = {draft: dict(enumerate(journal.drafts.get(draft).read(0, 1 << 20))) for draft in drafts}
        self.draft_choices = {
            draft: {at: {byte} for at, byte in written.items()} for draft, written in self.draft_bytes.items()
        }

    def check(self, journal: Journal, *, power_loss: bool) -> State:
        """Holds what the recovered journal says against what it may say. Returns it."""
        power_loss = power_loss or self.power_lost
        found = journal.recovered
        lost = found.unbacked
        earliest = self.synced if power_loss else self.last
        allowed = [(base, tuple(op for op in ops if op not in lost)) for base, ops in self.states[earliest:]]
        state = (found.base, tuple(found.ops))
        assert state in allowed, f"{state}\nis none of\n" + "\n".join(map(str, allowed))
        assert power_loss or all(op in self.lost_before for op in lost)
        for op in lost:
            assert op not in self.states[self.synced][1], "a synced record lost its bytes"
            assert op not in self.sealed, "a sealed record lost its bytes"
        for op in contents(state):
            for start, stop in op.extents:
                data = journal.drafts.get(op.draft).read(start, stop - start)
                assert len(data) == stop - start
                if op in self.seals and not power_loss:
                    assert all(journal.drafts.get(op.draft).sealed_in(at, at + 1) for at in range(start, stop))
                for at, byte in enumerate(data, start):
                    assert byte in self._allowed_bytes(op.draft, at, power_loss), "bytes that nobody wrote there"
        return state

    def _allowed_bytes(self, draft: DraftId, at: int, power_loss: bool) -> set[int]:
        if power_loss:
            return self.draft_choices[draft].get(at, {0})
        allowed = {self.draft_bytes[draft].get(at, 0)}
        if self.writing is not None and self.writing[0] == draft:
            _, offset, data = self.writing
            if offset <= at < offset + len(data):
                allowed.add(data[at - offset])
        return allowed


class Player:
    """Plays steps on a journal. Ends with Stopped when the disk does."""

    def __init__(self, disk: FaultyDisk) -> None:
        self.disk = disk
        self.model = Model()
        self.count = 0

    async def play(self, steps: list[Step]) -> None:
        self.journal = open_journal(self.disk)
        for verb, *arguments in steps:
            await getattr(self, verb)(*arguments)

    async def create(self) -> None:
        self.count += 1
        self._append(Create(f"f{self.count}", Inode(self.count), 0o644, None, None, self.count, self.count))

    async def push(self) -> None:
        self.count += 1
        self._append(Place(f"p{self.count}", Inode(self.count), cid(self.count), 1, self.count))

    async def content(self, which: int, offset: int, size: int) -> None:
        """Bytes into a new draft (0), the newest (1), the one before (2) …, then the record of them. Bytes over sealed ones go to a
        new draft."""
        self.count += 1
        used = sorted({op.draft for op in contents(self.model.states[self.model.last])})
        draft = self.journal.drafts.get(used[-which]) if 0 < which <= len(used) else self.journal.drafts.new()
        if draft.sealed_in(offset, offset + size):
            draft = self.journal.drafts.new()
        data = bytes((self.count * 7 + at) % 251 + 1 for at in range(size))
        self.model.attempt_write(draft.id, offset, data)
        draft.write(offset, data)
        self.model.acknowledge_write()
        extents = ((offset, offset + size),)
        self._append(SetContent(f"f{draft.id}", draft.id, extents, 0, offset + size, self.count, self.count))

    async def discard(self, which: int) -> None:
        """A draft that records still name, as after the removal of its file."""
        used = sorted({op.draft for op in contents(self.model.states[self.model.last])})
        if which < len(used) and self.model.synced == self.model.last:
            self.journal.drafts.get(used[which]).discard()

    async def sync(self) -> None:
        await self.journal.sync()
        self.model.acknowledge_sync()

    async def seal(self) -> None:
        """All bytes that are recorded."""
        extents: dict[DraftId, Extents] = {}
        for op in contents(self.model.states[self.model.last]):
            for start, stop in op.extents:
                extents.setdefault(op.draft, Extents()).add(start, stop)
        await self.journal.seal({draft: held.items() for draft, held in extents.items()})
        for draft, held in extents.items():
            for start, stop in held:
                assert all(self.journal.drafts.get(draft).sealed_in(at, at + 1) for at in range(start, stop))
        self.model.acknowledge_seal()

    async def checkpoint(self, keep: int) -> None:
        """A new base; of the ops the last ``keep`` stay."""
        self.count += 1
        _, ops = self.model.states[self.model.last]
        state = (cid(self.count), ops[len(ops) - min(keep, len(ops)) :])
        self.model.attempt(state)
        self.journal.checkpoint(*state)
        self.model.acknowledge()

    async def settle(self) -> None:
        await self.journal.compact()
        self.model.acknowledge_sync()

    async def sweep(self) -> None:
        await self.journal.sweep()
        self.model.acknowledge_sync()

    async def restart(self) -> None:
        """The process is killed and comes back."""
        self.disk = self.disk.after_kill(continued=True)
        self.journal = open_journal(self.disk)
        self.model.check(self.journal, power_loss=False)

    async def power_loss(self, seed: int) -> None:
        """The machine loses power and comes back."""
        self.disk = self.disk.after_power_loss(seed, continued=True)
        self.model.power_lost = True
        self.journal = open_journal(self.disk)
        self.model.restart(self.model.check(self.journal, power_loss=True), self.journal)

    def _append(self, op: Op) -> None:
        base, ops = self.model.states[self.model.last]
        self.model.attempt((base, (*ops, op)))
        self.journal.append(op)
        self.model.acknowledge()


def contents(state: State) -> list[SetContent]:
    return [op for op in state[1] if isinstance(op, SetContent)]


def crash_at(steps: list[Step], stop_at: int = 0, *, stop_after: bool = False) -> Player:
    """Plays until the disk stops at its call number ``stop_at`` (0: never)."""
    disk = FaultyDisk(stop_at=stop_at, stop_after=stop_after)
    disk.make_durable_folder("/state")
    player = Player(disk)
    with suppress(Stopped):
        trio.run(player.play, steps)
    assert player.disk.stopped == bool(stop_at)
    return player


def crash_everywhere(steps: list[Step], seeds: range) -> int:
    """Plays ``steps`` with a stop before, in and after every disk call, and checks every way back. Returns how many
    calls."""
    calls = len(crash_at(steps).disk.calls)
    for stop_at in range(1, calls + 1):
        for stop_after in (False, True):
            player = crash_at(steps, stop_at, stop_after=stop_after)
            try:
                check_every_way_back(player, seeds)
            except BaseException as error:
                error.add_note(f"{steps} stopped at call {stop_at} ({player.disk.calls[-1]}, stop_after={stop_after})")
                raise
    check_every_way_back(crash_at(steps), seeds)
    return calls


def check_every_way_back(player: Player, seeds: range) -> None:
    """A kill, a power loss that keeps nothing unsynced, and others that keep some of it."""
    check_way_back(player.model, player.disk.after_kill(), power_loss=False)
    check_way_back(player.model, player.disk.after_power_loss(), power_loss=True)
    for seed in seeds:
        check_way_back(player.model, player.disk.after_power_loss(seed), power_loss=True)


def check_way_back(model: Model, disk: FaultyDisk, *, power_loss: bool) -> None:
    """What is recovered is right; it survives a sync and a power loss, a sweep and another start."""

    async def go() -> None:
        journal = open_journal(disk)
        state = model.check(journal, power_loss=power_loss)
        named = {op.draft for op in contents(state)}
        await journal.sync()
        again = open_journal(disk.after_power_loss())
        assert (again.recovered.base, tuple(again.recovered.ops)) == state, "a sync after the recovery holds all of it"
        for draft in named:
            assert again.drafts.get(draft).read(0, 1 << 20) == journal.drafts.get(draft).read(0, 1 << 20)
        journal.append(LAST)
        fresh = journal.drafts.new()
        lost = {op.draft for op in journal.recovered.unbacked}
        assert fresh.id not in named | lost, "the id of a draft came back"
        assert power_loss or model.power_lost or fresh.id not in model.draft_bytes, "the id of a draft came back"
        await journal.sweep({fresh.id})
        assert journal.figures().segments == 1
        journal.close()
        assert disk.open_files() == 0
        last = open_journal(disk)
        assert (last.recovered.base, tuple(last.recovered.ops)) == (state[0], (*state[1], LAST))
        assert not last.recovered.set_aside
        assert set(last.drafts.on_disk()) <= named | lost | {fresh.id}, "a sweep leaves no orphans"

    trio.run(go)
