"""Trees of private buckets: directory nodes under the link key, file contents under file keys.

How things are stored (as a Textile Hub stores them)::

    directory   plain dag-pb node -> blob under the link key -> inline data of a UnixFS file node, dag-pb, CIDv1
    file        content -> blob under the file key of its path -> a file like any other
    symlink     as a directory: a dag-pb node under the link key

Links inside a decrypted directory name the stored children and their stored sizes. A directory is never sharded: its names are
the link key's secret and shards would show their number. A fresh IV for every node means that equal trees share no blocks.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

from bucketfs.dag import (
    DAG_PB,
    PbLink,
    PbNode,
    UnixFs,
    UnixFsType,
    cid_of,
    cid_text,
    codec_of,
    decode_pb,
    decode_unixfs,
    encode_pb,
    encode_unixfs,
    list_directory,
    node_info,
    reachable,
)
from bucketfs.errors import Corrupt, IsADirectory, NotADirectory, TooLarge
from bucketfs.hub.trees.content import LeafWriter, read_file
from bucketfs.hub.trees.crypt import DAMAGED, OVERHEAD_BYTES, cut, decrypt, decrypt_stream, encrypt
from bucketfs.hub.trees.public import KeyOf, Listing, ListingItem, Path, PathNotFound, PublicTree
from bucketfs.hub.trees.working_set import WorkingSet
from bucketfs.names import check_name
from bucketfs.types import Cid, Kind, Link

_DEPTH_MAX = 200


@dataclass(frozen=True, slots=True)
class _Node:
    """A decrypted directory or symlink. ``cid`` and ``size`` are those of the node in the clear, which is stored nowhere."""

    entries: dict[bytes, Link]
    message: UnixFs
    cid: Cid
    size_bytes: int

    @property
    def is_directory(self) -> bool:
        return self.message.type is UnixFsType.DIRECTORY

    def item(self, name: bytes) -> ListingItem:
        size = self.size_bytes + sum(link.tsize for link in self.entries.values())
        return ListingItem(name, self.cid, size, self.is_directory, len(self.entries))


class PrivateTree:
    """A tree whose directories are encrypted with ``link_key``. The Hub knows all keys of its buckets."""

    def __init__(self, blocks: WorkingSet, link_key: bytes) -> None:
        self.blocks = blocks
        self._link_key = link_key
        self._public = PublicTree(blocks)

    # Looking

    def find(self, root: Cid, path: Path) -> Link:
        link = Link(root, len(self.blocks.get(root)))
        for name in path:
            node = self._open(link.cid)
            found = node.entries.get(name) if node is not None else None
            if found is None:
                text = b"/".join(path).decode(errors="replace")
                raise PathNotFound(f"could not resolve path: /ipfs/{cid_text(root)}/{text}")
            link = found
        return link

    def listing(self, link: Link, name: bytes) -> Listing:
        node = self._open(link.cid)
        if node is None or not node.is_directory:
            return Listing(ListingItem(name, link.cid, link.tsize, is_directory=False))
        children = []
        for entry, child in node.entries.items():
            below = self._open(child.cid)
            if below is not None and below.is_directory:
                children.append(below.item(entry))
            else:
                children.append(ListingItem(entry, child.cid, child.tsize, is_directory=False))
        return Listing(node.item(name), tuple(children))

    def is_directory(self, cid: Cid) -> bool:
        node = self._open(cid)
        return node is not None and node.is_directory

    def read(self, cid: Cid, key: bytes | None, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        target = self._target(cid)
        if target is not None:
            return iter((target[start:stop],))
        if key is None:
            raise Corrupt(DAMAGED)
        blob_bytes = self._blob_bytes(cid)
        # The blob is read twice, and as a whole: nothing is given out before its MAC was checked.
        plain = decrypt_stream(lambda: read_file(self.blocks, cid, blob_bytes), blob_bytes, key)
        return plain if not start and stop is None else cut(plain, start, blob_bytes if stop is None else stop)

    def content_size(self, cid: Cid) -> int:
        target = self._target(cid)
        return max(self._blob_bytes(cid) - OVERHEAD_BYTES, 0) if target is None else len(target)

    def is_symlink(self, cid: Cid) -> bool:
        node = self._open(cid)
        return node is not None and not node.is_directory

    def _target(self, cid: Cid) -> bytes | None:
        """Of a symlink; ``None`` for a file. Raises IsADirectory."""
        node = self._open(cid)
        if node is not None and node.is_directory:
            raise IsADirectory("node is a directory")
        return None if node is None else node.message.data

    def _blob_bytes(self, cid: Cid) -> int:
        return node_info(cid, self.blocks.get(cid)).size_bytes

    def size(self, root: Link) -> int:
        return self.growth(None, root)

    def size_after(self, root: Cid, size_bytes: int, new: Link) -> int:
        return size_bytes + self.growth(Link(root, len(self.blocks.get(root))), Link(new.cid, len(self.blocks.get(new.cid))))

    # Changing

    def edit(self, root: Cid, changes: Mapping[Path, Link | None]) -> Link:
        whole = changes.get(())
        if whole is not None:
            return whole  # the root is replaced alone
        # What stands deeper could not be given another key, and so not be shared or moved.
        _check_depth(_DEPTH_MAX + 1 - max(map(len, changes), default=0))
        return self._edit(root, changes) if changes else Link(root, len(self.blocks.get(root)))

    def _edit(self, cid: Cid | None, changes: Mapping[Path, Link | None]) -> Link:
        node = self._open(cid) if cid is not None else None
        if cid is not None and (node is None or not node.is_directory):
            raise NotADirectory("not a directory")
        entries = dict(node.entries) if node is not None else {}
        below: dict[bytes, dict[Path, Link | None]] = {}
        for path, link in changes.items():
            if len(path) > 1:
                below.setdefault(path[0], {})[path[1:]] = link
            elif link is None:
                entries.pop(path[0], None)
            else:
                check_name(path[0])
                entries[path[0]] = link
        for name, deeper in below.items():
            check_name(name)
            old = entries.get(name)
            if old is not None or any(link is not None for link in deeper.values()):
                entries[name] = self._edit(old.cid if old is not None else None, deeper)
        message = node.message if node is not None else UnixFs(UnixFsType.DIRECTORY)
        return self._seal(message, entries)

    def bring_in(self, link: Link, key_of: KeyOf, at: Path) -> Link:
        # Attributes of directories are kept, those of files are not.
        return self._bring_in(link.cid, key_of, at, _DEPTH_MAX - len(at))

    def _bring_in(self, cid: Cid, key_of: KeyOf, at: Path, depth: int) -> Link:
        info = node_info(cid, self.blocks.get(cid))
        if info.kind is Kind.FILE:
            return self.write(self._public.read(cid), key_of(at))
        if info.kind is Kind.SYMLINK:
            return self._seal(UnixFs(UnixFsType.SYMLINK, data=info.target or b"").with_attributes(info.attributes), {})
        _check_depth(depth)
        entries = self.blocks.run(list_directory(cid)).entries
        sealed = {name: self._bring_in(child.cid, key_of, (*at, name), depth - 1) for name, child in entries.items()}
        return self._seal(UnixFs(UnixFsType.DIRECTORY).with_attributes(info.attributes), sealed)

    def rekey(self, link: Link, old_key: KeyOf, new_key: KeyOf) -> Link:
        return self._rekey(link, old_key, new_key, (), _DEPTH_MAX)

    def _rekey(self, link: Link, old_key: KeyOf, new_key: KeyOf, at: Path, depth: int) -> Link:
        node = self._open(link.cid)
        if node is None:
            before, after = old_key(at), new_key(at)
            return link if before == after else self.write(self.read(link.cid, before), after)
        if not node.is_directory:
            return link
        _check_depth(depth)
        entries = {
            name: self._rekey(child, old_key, new_key, (*at, name), depth - 1) for name, child in node.entries.items()
        }
        return link if entries == node.entries else self._seal(node.message, entries)

    def write(self, pieces: Iterable[bytes], key: bytes | None) -> Link:
        """A new encrypted file with this content."""
        with self.blocks.receive() as writer:
            leaves = LeafWriter(writer, key)
            for piece in pieces:
                leaves.feed(piece)
            link = leaves.finish()
            writer.finish()
        return link

    def growth(self, old: Link | None, new: Link | None) -> int:
        """By how many stored bytes the tree at ``new`` is larger than the one at ``old``. Links do not say: that of a directory
        names the size of its node alone. Walks both in step and enters nothing that is the same in both."""
        if old is not None and new is not None and old.cid == new.cid:
            return 0
        before, after = (None if link is None else self._open(link.cid) for link in (old, new))
        grown = (0 if new is None else new.tsize) - (0 if old is None else old.tsize)
        then, now = ({} if node is None else node.entries for node in (before, after))
        return grown + sum(self.growth(then.get(name), now.get(name)) for name in then.keys() | now.keys())

    def reachable(self, root: Cid, known: Container[Cid] = ()) -> set[Cid]:
        """All stored CIDs under a root, as ``bucketfs.dag.reachable``, seen through the encryption.

        Raises Corrupt, also when the root does not open: then nothing is known of what it leads to.
        """
        found: set[Cid] = set()
        ahead = [] if root in known else [root]
        while ahead:
            cid = ahead.pop()
            if cid in found:
                continue
            found.add(cid)
            node = self._open(cid)
            if node is not None:
                below = [link.cid for link in node.entries.values()]
            elif cid == root:
                raise Corrupt("the root of a private bucket does not open with its link key")
            else:
                below = list(self.blocks.run(reachable(cid)))
                found.update(below)
                continue
            ahead += [one for one in below if one not in found and one not in known]
        return found

    # Nodes

    def _open(self, cid: Cid) -> _Node | None:
        """The decrypted directory or symlink; ``None`` for a file, whose kind shows in what it does not decrypt to."""
        if codec_of(cid) != DAG_PB:
            return None
        outer = decode_pb(self.blocks.get(cid))
        if outer.links or outer.data is None:
            return None
        try:
            plain = decrypt(decode_unixfs(outer.data).data, self._link_key)
            inner = decode_pb(plain)
            message = decode_unixfs(inner.data or b"")
        except Corrupt:
            return None
        if message.type not in (UnixFsType.DIRECTORY, UnixFsType.SYMLINK):
            return None
        entries: dict[bytes, Link] = {}
        for link in inner.links:
            entries.setdefault(link.name, Link(link.cid, link.tsize))
        return _Node(entries, message, cid_of(plain, DAG_PB), len(plain))

    def _seal(self, message: UnixFs, entries: Mapping[bytes, Link]) -> Link:
        links = tuple(PbLink(link.cid, name, link.tsize) for name, link in sorted(entries.items()))
        blob = encrypt(encode_pb(PbNode(links, encode_unixfs(message))), self._link_key)
        block = encode_pb(PbNode((), encode_unixfs(UnixFs(UnixFsType.FILE, data=blob, filesize=len(blob)))))
        cid = cid_of(block, DAG_PB)
        self.blocks.add({cid: block}, {cid: [link.cid for link in entries.values()]})
        return Link(cid, len(block))


def _check_depth(depth: int) -> None:
    if depth <= 0:
        raise TooLarge(f"a private bucket has at most {_DEPTH_MAX} levels")
