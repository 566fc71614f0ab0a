"""News to the kernel: told once, in order, by one thread that can be brought to rest. The kernel's side is a list here; through
the real one see test_kernel.py."""

from __future__ import annotations

import errno
import threading

import pytest
import trio
import trio.testing

from bucketfs.mount import invalidate
from bucketfs.mount.invalidate import Invalidator
from bucketfs.types import Inode
from bucketfs.vfs import AttributesChanged, EntryChanged, EntryGone, Invalidation

A, B = EntryChanged(Inode(1), b"a"), EntryChanged(Inode(1), b"b")


class Kernel:
    """Takes news one at a time; ``gate`` holds it up."""

    def __init__(self) -> None:
        self.told: list[Invalidation] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, news: Invalidation) -> None:
        self.entered.release()
        assert self.gate.wait(10)
        self.told.append(news)

    async def busy(self) -> None:
        await trio.to_thread.run_sync(self.entered.acquire)


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


async def test_the_same_news_is_told_once_and_in_order_of_last_mention(kernel: Kernel, nursery: trio.Nursery) -> None:
    """A storm of changes does not become a storm of announcements, and the last word wins."""
    invalidator = Invalidator(kernel)
    for news in (A, B, EntryChanged(Inode(1), b"a")):
        invalidator.notify(news)
    await nursery.start(invalidator.run)
    await invalidator.drained()
    assert kernel.told == [B, A]
    assert invalidator.told == 2


async def test_news_repeated_while_it_is_told_is_told_again(kernel: Kernel, nursery: trio.Nursery) -> None:
    """A change during its own announcement is not lost."""
    invalidator = Invalidator(kernel)
    await nursery.start(invalidator.run)
    kernel.gate.clear()
    invalidator.notify(A)
    await kernel.busy()
    invalidator.notify(A)
    kernel.gate.set()
    await invalidator.drained()
    assert kernel.told == [A, A]


async def test_more_than_a_batch(kernel: Kernel, nursery: trio.Nursery) -> None:
    """A root that changed everything is announced completely."""
    invalidator = Invalidator(kernel)
    await nursery.start(invalidator.run)
    many = [AttributesChanged(Inode(number)) for number in range(3 * invalidate.BATCH_MAX + 1)]
    for news in many:
        invalidator.notify(news)
    await invalidator.drained()
    assert kernel.told == many


async def test_it_comes_to_rest_and_tells_nothing_afterwards(kernel: Kernel) -> None:
    """An unmount does not pull the session from under a worker."""
    invalidator = Invalidator(kernel)
    kernel.gate.clear()
    async with trio.open_nursery() as nursery:
        await nursery.start(invalidator.run)
        invalidator.notify(A)
        invalidator.notify(B)
        await kernel.busy()
        nursery.cancel_scope.cancel()
    assert not invalidator.resting
    assert not await invalidator.at_rest(0.05)
    kernel.gate.set()
    assert await invalidator.at_rest(5)
    assert kernel.told == [A]
    invalidator.notify(B)
    await invalidator.drained()
    assert kernel.told == [A]


async def test_what_the_kernel_does_not_hold_is_no_trouble(nursery: trio.Nursery, caplog: pytest.LogCaptureFixture) -> None:
    """Only refusals that mean something get into the log."""
    answers = {b"gone": errno.ENOENT, b"away": errno.ENOTCONN, b"odd": errno.EPERM}

    def tell(news: Invalidation) -> None:
        assert isinstance(news, EntryGone)
        raise OSError(answers[news.name], "no")

    invalidator = Invalidator(tell)
    await nursery.start(invalidator.run)
    for name in answers:
        invalidator.notify(EntryGone(Inode(1), name, Inode(2)))
    await invalidator.drained()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "odd" in caplog.text


async def test_a_name_that_an_answer_introduced_is_not_announced_any_more(kernel: Kernel, nursery: trio.Nursery) -> None:
    """getcwd(2) works in a folder that was just looked up."""
    invalidator = Invalidator(kernel)
    await nursery.start(invalidator.run)
    kernel.gate.clear()
    invalidator.notify(A)
    await kernel.busy()
    gone = EntryGone(Inode(1), b"b", Inode(7))
    for news in (B, gone, AttributesChanged(Inode(7))):
        invalidator.notify(news)
    invalidator.introduced(Inode(1), b"b")
    invalidator.introduced(Inode(2), b"a")
    kernel.gate.set()
    await invalidator.drained()
    assert kernel.told == [A, AttributesChanged(Inode(7))]


async def test_a_name_is_introduced_while_others_of_its_batch_are_told(kernel: Kernel, nursery: trio.Nursery) -> None:
    """A name that is answered during a batch is not dropped by it."""
    invalidator = Invalidator(kernel)
    kernel.gate.clear()
    for news in (A, B):
        invalidator.notify(news)
    await nursery.start(invalidator.run)
    await kernel.busy()
    invalidator.introduced(Inode(1), b"b")
    kernel.gate.set()
    await invalidator.drained()
    assert kernel.told == [A]
    invalidator.notify(B)
    await invalidator.drained()
    assert kernel.told == [A, B]


async def test_a_task_goes_on_when_its_own_mention_was_told(kernel: Kernel, nursery: trio.Nursery) -> None:
    """A write that waits until the kernel dropped old pages does not go on after an announcement from before."""
    invalidator = Invalidator(kernel)
    await nursery.start(invalidator.run)
    told_at: list[int] = []

    async def wait() -> None:
        await invalidator.announced(A)
        told_at.append(len(kernel.told))

    kernel.gate.clear()
    async with trio.open_nursery() as tasks:
        tasks.start_soon(wait)
        await kernel.busy()
        tasks.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        kernel.gate.set()
    assert kernel.told == [A, A]
    assert told_at == [1, 2] or told_at == [2, 2]


async def test_the_end_of_the_mount_lets_every_task_go_on(kernel: Kernel) -> None:
    """An unmount does not leave a write waiting for an announcement that is never made."""
    invalidator = Invalidator(kernel)
    async with trio.open_nursery() as nursery:
        scope = await nursery.start(_run_in_a_scope, invalidator)
        kernel.gate.clear()
        nursery.start_soon(invalidator.announced, A)
        await kernel.busy()
        nursery.start_soon(invalidator.announced, A)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
    kernel.gate.set()
    assert await invalidator.at_rest(5)


async def _run_in_a_scope(invalidator: Invalidator, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await invalidator.run()
