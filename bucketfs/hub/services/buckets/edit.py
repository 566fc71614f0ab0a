"""Changing buckets by path, without content from the client: ``SetPath``, ``MovePath``, ``RemovePath``, ``Remove`` and the roles.

Where the original compares paths as strings (so that moving ``a.txt`` to ``a`` keeps the source, and removing ``a`` drops the
entry of ``ab``), names are compared here. A move leaves nothing behind; the original kept the source's entry."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bucketfs.errors import InvalidArgument, NotFound
from bucketfs.hub.context import EventAction
from bucketfs.hub.db import BucketRow, PathEntry
from bucketfs.hub.rpc import Code, Context, Status, answered
from bucketfs.hub.services.buckets.incoming import check_sealable, fetch_remote, with_new_seed
from bucketfs.hub.services.buckets.messages import root_message
from bucketfs.hub.services.buckets.paths import entries_removed, entries_written, file_key, path_text, write_path
from bucketfs.hub.services.buckets.writer import WRAPPED, BucketWriter, Entries, WritePlan, denied_as
from bucketfs.hub.trees import BucketTree, Path, PathNotFound, access, new_key, total_size
from bucketfs.keys import parse_public_key, public_key_text
from bucketfs.roles import EVERYBODY, PathChange, Role
from bucketfs.types import Link
from bucketfs.wire import buckets_pb2 as pb


class BucketEdits:
    """The methods."""

    def __init__(self, writer: BucketWriter) -> None:
        self._writer = writer

    # SetPath

    def set_path(self, request: Any, context: Context) -> Any:
        """``SetPath``: an existing DAG at a path; at ``""`` it becomes the whole bucket, with a new seed."""
        path = write_path(request.path, seed_allowed=True)

        def plan(row: BucketRow, tree: BucketTree) -> WritePlan:
            entries = entries_written(row.entries, [path], time.time_ns())
            self._writer.check_write(context.call, row, tree, entries, [path])
            return WritePlan(entries, lambda: self._set(row, entries, tree, path, request.cid))

        with denied_as():
            saved = self._writer.write(context.call, request.key, plan, check=context.check_active)
        return pb.SetPathResponse(pinned=saved.grown_bytes)

    def _set(self, row: BucketRow, entries: Entries, tree: BucketTree, path: Path, cid_text: str) -> Link:
        remote = fetch_remote(self._writer, tree, cid_text)
        check_sealable(self._writer, row, tree, remote)
        link = tree.bring_in(remote, lambda place: file_key(row, entries, place), path)
        if path:
            return tree.edit(row.root, {path: link})
        if not tree.is_directory(link.cid):
            raise Status(Code.UNKNOWN, "not a directory")
        return with_new_seed(tree, link, file_key(row, entries, ())).root

    # MovePath

    def move_path(self, request: Any, context: Context) -> Any:
        """``MovePath``: rename, replace a file, or move into a directory."""
        source, target = write_path(request.from_path), write_path(request.to_path)

        def plan(row: BucketRow, tree: BucketTree) -> WritePlan | None:
            if source == target:
                return None
            if not source:
                raise Status(Code.UNKNOWN, "source is root directory")
            self._writer.check_visible(context.call, row, source)
            link = self._writer.find(row, tree, source)
            place = _move_target(row, tree, source, link, target)
            if place == source:
                return None
            if place[: len(source)] == source and not tree.is_directory(link.cid):
                raise Status(Code.UNKNOWN, "not a directory")
            access.check_changes(row, [(path_text(source), PathChange.REMOVE)], context.call.writer)
            entries = entries_written(entries_removed(row.entries, source), [place], time.time_ns())
            self._writer.check_write(context.call, row, tree, entries, [place])
            return WritePlan(entries, lambda: _move(row, entries, tree, source, place, link))

        with denied_as(WRAPPED):
            self._writer.write(context.call, request.key, plan, check=context.check_active)
        return pb.MovePathResponse()

    # RemovePath, Remove

    def remove_path(self, request: Any, context: Context) -> Any:
        """``RemovePath``: a file, or a directory with everything below."""
        path = write_path(request.path)
        if not path:
            raise InvalidArgument("the root of a bucket cannot be removed; remove the bucket")

        def plan(row: BucketRow, tree: BucketTree) -> WritePlan:
            self._writer.check_visible(context.call, row, path)
            try:
                tree.find(row.root, path)
            except PathNotFound as error:
                text = f"remove node failed: {error}" if row.private else "no link by that name"
                raise Status(Code.UNKNOWN, text) from error
            # Asked of the tree: what has no entry is not seen to be removed by comparing entries.
            access.check_changes(row, [(path_text(path), PathChange.REMOVE)], context.call.writer)
            entries = entries_removed(row.entries, path)
            self._writer.check_entries(context.call, row, entries)
            return WritePlan(entries, lambda: tree.edit(row.root, {path: None}))

        with denied_as():
            saved = self._writer.write(context.call, request.key, plan, expected=request.root, check=context.check_active)
        root = root_message(access.visible(saved.row, context.call.writer))
        return pb.RemovePathResponse(root=root, pinned=saved.grown_bytes)

    def remove(self, request: Any, context: Context) -> Any:
        """``Remove``: the whole bucket, by its owner."""
        hub, row = self._writer.hub, self._writer.row(context.call, request.key)
        with denied_as():
            access.check_delete(row, context.call.writer)
        with answered(NotFound, Code.UNKNOWN):
            hub.database.delete_bucket(row.key)
        hub.events.publish(row.thread, row.key, EventAction.DELETE)
        return pb.RemoveResponse(pinned=-total_size(row.root, self._writer.tree(row).blocks.get(row.root)))

    # Roles

    def push_roles(self, request: Any, context: Context) -> Any:
        """``PushPathAccessRoles``: grants and takes away roles on a path; in a private bucket it gets a key of its own."""
        path = write_path(request.path)
        roles = _roles(request.roles)

        def plan(row: BucketRow, tree: BucketTree) -> WritePlan | None:
            self._writer.check_visible(context.call, row, path)
            link = self._writer.find(row, tree, path)
            text = path_text(path)
            entry = row.entries.get(text, PathEntry())
            merged = {who: role for who, role in {**entry.roles, **roles}.items() if role}
            if merged == dict(entry.roles):
                return None
            key = new_key() if row.private and row.version else entry.key
            entries = {**row.entries, text: replace(entry, key=key, roles=merged, updated_at_ns=time.time_ns())}
            self._writer.check_entries(context.call, row, entries)
            return WritePlan(entries, lambda: _rekey(row, entries, tree, path, link))

        with denied_as():
            saved = self._writer.write(context.call, request.key, plan, check=context.check_active)
        return pb.PushPathAccessRolesResponse(pinned=saved.grown_bytes)


def _move_target(row: BucketRow, tree: BucketTree, source: Path, link: Link, target: Path) -> Path:
    """Where the source will stand: in a directory that exists at the target, under its own name; else at the target."""
    try:
        found = tree.find(row.root, target)
    except PathNotFound:
        return target
    if tree.is_directory(found.cid):
        return (*target, source[-1])
    if tree.is_directory(link.cid):
        raise Status(Code.UNKNOWN, "not a directory")
    return target


def _move(row: BucketRow, entries: Entries, tree: BucketTree, source: Path, place: Path, link: Link) -> Link:
    link = tree.rekey(
        link,
        lambda below: file_key(row, row.entries, source + below),
        lambda below: file_key(row, entries, place + below),
    )
    if place[: len(source)] == source:
        # Into itself: the source comes to stand below its own name, alone.
        return tree.edit(tree.edit(row.root, {source: None}).cid, {place: link})
    return tree.edit(row.root, {source: None, place: link})


def _rekey(row: BucketRow, entries: Entries, tree: BucketTree, path: Path, link: Link) -> Link:
    if not row.private:
        return tree.find(row.root, ())
    fresh = tree.rekey(
        link, lambda below: file_key(row, row.entries, path + below), lambda below: file_key(row, entries, path + below)
    )
    return tree.edit(row.root, {path: fresh})


def _roles(asked: Mapping[str, int]) -> dict[str, int]:
    """Roles by grantee, each public key in its one spelling."""
    roles = {}
    for who, role in asked.items():
        if who != EVERYBODY:
            try:
                who = public_key_text(parse_public_key(who))
            except InvalidArgument as error:
                raise Status(Code.UNKNOWN, f"unmarshaling role public key: {error}") from error
        if role not in set(Role):
            raise InvalidArgument(f"there is no role {role}")
        roles[who] = role
    return roles
