"""Pushing files: ``PushPath`` and ``PushPaths`` of api.bucketsd.pb.

Content is received first and the bucket changed afterwards, in one short step that starts over when another call changed the
bucket in between (or fails, when the caller named the root that it must still have). A client that is slow, or gone, holds no
lock."""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from bucketfs.dag import cid_text, reachable
from bucketfs.errors import InvalidArgument, Refused, Unavailable
from bucketfs.hub.db import BucketRow
from bucketfs.hub.rpc import Code, Context, Status
from bucketfs.hub.services.buckets.messages import root_message
from bucketfs.hub.services.buckets.paths import entries_written, file_key, path_text, write_path
from bucketfs.hub.services.buckets.writer import WRAPPED, BucketWriter, Entries, StreamQuota, WritePlan, denied_as
from bucketfs.hub.trees import BucketTree, KeyOf, LeafWriter, Path, WorkingSet, access, total_size
from bucketfs.keys import root_path
from bucketfs.types import Cid, Link
from bucketfs.wire import buckets_pb2 as pb

PROGRESS_BYTES = 262144
HEADER_WANTED = "push bucket path header is required"
PATHS_SHOWN_MAX = 100
"""Entries of a bucket above which the interim roots of a push leave them out: a root for each of n files would cost n * n."""
_GATHERED_MAX = 256
_QUEUED_MAX = 1024
_OPEN_MAX = 256
"""Files of one push that may be unfinished: each holds up to a leaf of 256 KiB in memory, the first few up to eight."""
_OPEN_FEW = 8


@dataclass(frozen=True, slots=True)
class _PushedFile:
    """A file that was received whole. ``key`` is the one that its content was encrypted with."""

    path: Path
    link: Link
    key: bytes | None


class Pushes:
    """The methods."""

    def __init__(self, writer: BucketWriter) -> None:
        self._writer = writer

    def push_path(self, requests: Iterator[Any], context: Context) -> Iterator[Any]:
        """``PushPath``: one file."""
        header = _header(requests)
        if header is None:
            return
        path = _file_path(header.path)
        row = self._writer.row(context.call, header.key)
        self._writer.check_fast_forward(row, header.root)
        with denied_as():
            self.check(context, row, [path])
        upload = secrets.token_bytes(16)
        key = file_key(row, row.entries, path)
        with self._writer.receive(context.call, upload) as block_writer:
            leaves = LeafWriter(block_writer, key)
            quota = StreamQuota(self._writer, row)
            reported = 0
            for request in requests:
                if request.WhichOneof("payload") != "chunk":
                    raise Status(Code.UNKNOWN, "invalid request")
                quota.take(len(request.chunk))
                leaves.feed(request.chunk)
                while leaves.bytes_taken - reported >= PROGRESS_BYTES:
                    reported += PROGRESS_BYTES
                    yield _progress(reported)
            link = leaves.finish()
            yield _progress(leaves.bytes_taken)
            block_writer.finish()
        context.check_active()
        file = _PushedFile(path, link, key)
        blocks = self.check_present([file], upload)

        def plan(row: BucketRow, tree: BucketTree) -> WritePlan:
            self.check(context, row, [path])
            entries = entries_written(row.entries, [path], time.time_ns())
            return WritePlan(entries, lambda: edit_in(row, entries, tree, [file]))

        with denied_as():
            saved = self._writer.write(
                context.call, header.key, plan, expected=header.root, upload=upload, check=context.check_active
            )
        self.redeem(context, upload, blocks)
        event = pb.PushPathResponse.Event(
            path=root_path(link.cid),
            size=str(link.tsize),
            root=root_message(access.visible(saved.row, context.call.writer)),
            pinned=saved.grown_bytes,
        )
        yield pb.PushPathResponse(event=event)

    def push_paths(self, requests: Iterator[Any], context: Context) -> Iterator[Any]:
        """``PushPaths``: many files, saved once; what was complete is saved also when the call fails later."""
        header = _header(requests)
        if header is None:
            return
        row = self._writer.row(context.call, header.key)
        self._writer.check_fast_forward(row, header.root)
        with denied_as(WRAPPED, Code.PERMISSION_DENIED):
            self.check(context, row, [_parsed_path(path) for path in header.paths])
        yield from _PushPaths(self, self._writer, context, header, row).run(requests)

    def check(self, context: Context, row: BucketRow, paths: list[Path]) -> None:
        """Raises Denied unless the caller may write files at these paths."""
        if not access.may_all(row, context.call.writer):
            tree = self._writer.tree(row, check=context.check_active)
            self._writer.check_write(context.call, row, tree, entries_written(row.entries, paths, time.time_ns()), paths)

    def check_present(self, files: list[_PushedFile], upload: bytes) -> set[Cid]:
        """All blocks of these files, leased anew. Raises Unavailable when some have been collected: a stream may outlive its
        lease."""
        store = self._writer.hub.blockstore
        blocks = WorkingSet(store, upload, absent=Unavailable)
        needed: set[Cid] = set()
        for file in files:
            needed |= blocks.run(reachable(file.link.cid, needed))
        if store.missing(needed, upload):
            raise Unavailable("some of what was pushed is not here any more; push it again")
        return needed

    def redeem(self, context: Context, upload: bytes, blocks: set[Cid]) -> None:
        """A root holds these blocks of the upload now."""
        self._writer.hub.upload_quota.redeem(context.call.payer, upload, blocks)


def edit_in(row: BucketRow, entries: Entries, tree: BucketTree, files: list[_PushedFile]) -> Link:
    """The root of the bucket with these files in it."""
    changes: dict[Path, Link | None] = {}
    for file in files:
        link, key = file.link, file_key(row, entries, file.path)
        if key != file.key:
            # Roles were granted between receiving and linking, and with them the place got another key.
            link = tree.rekey(link, _always(file.key), _always(key))
        changes[file.path] = link
    return tree.edit(row.root, changes)


def _always(key: bytes | None) -> KeyOf:
    return lambda _path: key


class _PushPaths:
    """One call of ``PushPaths``.

    A thread of its own reads the requests and stores content. The handler's thread links what is complete, everything that has
    queued up meanwhile in one edit, and answers for each file with a root that has it.
    """

    def __init__(self, pushes: Pushes, writer: BucketWriter, context: Context, header: Any, row: BucketRow) -> None:
        self._pushes = pushes
        self._writer = writer
        self._context = context
        self._header = header
        self._row = row
        self._upload = secrets.token_bytes(16)
        self._complete: queue.Queue[_PushedFile | BaseException | None] = queue.Queue(_QUEUED_MAX)
        self._given_up = threading.Event()
        self._checked = {path.removeprefix("/") for path in header.paths}
        self._linked: dict[Path, _PushedFile] = {}
        self._folders: set[Path] = set()
        self._quota = StreamQuota(writer, row)
        self._root: Cid = row.root
        self._size_bytes = 0
        # Filled by the reader, finished by the save, which must not miss that some of it could not be made durable.
        self._block_writer = writer.receive(context.call, self._upload)

    def run(self, requests: Iterator[Any]) -> Iterator[Any]:
        reader = threading.Thread(target=self._read, args=(requests,), name="hub-push", daemon=True)
        reader.start()
        error: BaseException | None = None
        try:
            tree = self._writer.tree(self._row, self._upload)
            self._size_bytes = total_size(self._root, tree.blocks.get(self._root))
            ended = False
            while not ended:
                files, error, ended = self._next()
                if files:
                    yield from self._interim(tree, files)
        finally:
            # Also when the client is gone and takes no more answers: complete files stay.
            self._given_up.set()
            if self._linked:
                with denied_as(WRAPPED, Code.PERMISSION_DENIED):
                    self._save(tree)
            # The reader ends with the stream: a call that failed early has not seen the end of it yet.
        if error is not None:
            raise error

    def _next(self) -> tuple[list[_PushedFile], BaseException | None, bool]:
        """What is complete by now, at least one thing; why the stream failed; whether it is over."""
        files: list[_PushedFile] = []
        item = self._complete.get()
        while isinstance(item, _PushedFile):
            files.append(item)
            if len(files) >= _GATHERED_MAX:
                return files, None, False
            try:
                item = self._complete.get_nowait()
            except queue.Empty:
                return files, None, False
        return files, item, True

    def _interim(self, tree: BucketTree, files: list[_PushedFile]) -> Iterator[Any]:
        try:
            link = tree.edit(self._root, {file.path: file.link for file in files})
        except Refused as error:
            if len(files) > 1:
                # One of them does not fit in: those before it stay.
                for file in files:
                    yield from self._interim(tree, [file])
                return
            raise Status(Code.UNKNOWN, f"adding bucket link: {error}") from error
        grown = link.tsize - self._size_bytes
        self._root, self._size_bytes = link.cid, link.tsize
        tree.blocks.forget_all_but(self._root)
        for file in files:
            self._remember(file)
        interim = replace(self._row, root=self._root)
        is_large = len(self._row.entries) + len(self._linked) > PATHS_SHOWN_MAX
        if not is_large:
            interim = replace(interim, entries=entries_written(self._row.entries, self._linked, time.time_ns()))
        root = root_message(access.visible(interim, self._context.call.writer), with_paths=not is_large)
        for file in files:
            yield pb.PushPathsResponse(
                path=path_text(file.path), cid=cid_text(file.link.cid), size=file.link.tsize, pinned=grown, root=root
            )
            grown = 0

    def _remember(self, file: _PushedFile) -> None:
        """Keeps what the interim root holds: a file that replaced a folder replaced the files pushed into it before."""
        if file.path in self._folders:
            below = [path for path in self._linked if path[: len(file.path)] == file.path]
            for path in below:
                del self._linked[path]
        self._linked[file.path] = file
        self._folders.update(file.path[:length] for length in range(1, len(file.path)))

    def _save(self, interim: BucketTree) -> None:
        files = list(self._linked.values())
        self._block_writer.finish()
        blocks = self._pushes.check_present(files, self._upload)

        def plan(row: BucketRow, tree: BucketTree) -> WritePlan:
            paths = [file.path for file in files]
            entries = entries_written(row.entries, paths, time.time_ns())
            if (row.root, row.revision) == (self._row.root, self._row.revision):
                # Nothing happened in between: the root that was answered last is the one to save.
                return WritePlan(entries, lambda: self._hand_over(interim, tree))
            self._pushes.check(self._context, row, paths)
            return WritePlan(entries, lambda: edit_in(row, entries, tree, files))

        self._writer.write(self._context.call, self._header.key, plan, expected=self._header.root, upload=self._upload)
        self._pushes.redeem(self._context, self._upload, blocks)

    def _hand_over(self, interim: BucketTree, tree: BucketTree) -> Link:
        tree.blocks = interim.blocks
        return Link(self._root, self._size_bytes)

    # In the reader's thread

    def _read(self, requests: Iterator[Any]) -> None:
        writers: dict[str, tuple[Path, bytes | None, LeafWriter]] = {}
        outcome: BaseException | None = None
        try:
            for request in requests:
                if self._given_up.is_set():
                    return
                self._take(request, writers)
            if writers:
                raise Status(Code.UNKNOWN, f"adding file: the stream ended before {next(iter(writers))} did")
        except Exception as error:
            outcome = error
        self._hand(outcome)

    def _take(self, request: Any, writers: dict[str, tuple[Path, bytes | None, LeafWriter]]) -> None:
        if request.WhichOneof("payload") != "chunk":
            raise Status(Code.UNKNOWN, "invalid request")
        name = request.chunk.path
        if name not in writers:
            path = _parsed_path(name)
            if len(writers) >= _OPEN_MAX:
                raise Status(Code.RESOURCE_EXHAUSTED, f"enqueueing file: {_OPEN_MAX} files are unfinished already")
            if name.removeprefix("/") not in self._checked:
                with denied_as("enqueueing file: " + WRAPPED):
                    self._pushes.check(self._context, self._row, [path])
            key = file_key(self._row, self._row.entries, path)
            few = {} if len(writers) < _OPEN_FEW else {"leaves_at_once": 1}
            writers[name] = (path, key, LeafWriter(self._block_writer, key, **few))
        path, key, leaves = writers[name]
        if request.chunk.data:
            self._quota.take(len(request.chunk.data))
            leaves.feed(request.chunk.data)
            return
        del writers[name]
        link = leaves.finish()
        # Not synced here: the save does that, once for all files.
        self._hand(_PushedFile(path, link, key))

    def _hand(self, item: _PushedFile | BaseException | None) -> None:
        while not self._given_up.is_set():
            try:
                self._complete.put(item, timeout=0.5)
            except queue.Full:
                continue
            return


def _header(requests: Iterator[Any]) -> Any:
    """The header that opens the stream; ``None`` for a stream that is closed at once."""
    first = next(requests, None)
    if first is None:
        return None
    if first.WhichOneof("payload") != "header":
        raise Status(Code.UNKNOWN, HEADER_WANTED)
    return first.header


def _file_path(text: str) -> Path:
    path = write_path(text)
    if not path:
        raise InvalidArgument("a file cannot take the place of the bucket's root")
    return path


def _parsed_path(text: str) -> Path:
    try:
        return _file_path(text)
    except (Status, InvalidArgument) as error:
        raise Status(Code.UNKNOWN, f"parsing path: {getattr(error, 'text', error)}") from error


def _progress(size_bytes: int) -> Any:
    return pb.PushPathResponse(event=pb.PushPathResponse.Event(bytes=size_bytes))
