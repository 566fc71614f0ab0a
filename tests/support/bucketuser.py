"""A user of buckets who knows the protocol's messages and nothing of bucketfs: calls go through a bare client."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import grpc

from bucketfs.dag import cid_from_text, multibase_encode
from bucketfs.types import Cid
from bucketfs.wire import blocks_pb2, buckets_pb2, threads_pb2

BUCKETS = "api.bucketsd.pb.APIService"
BLOCKS = "bucketfs.v1.Blocks"
CHUNK = 32768

pb: Any = buckets_pb2
bl: Any = blocks_pb2
th: Any = threads_pb2


def raised(error: grpc.RpcError) -> tuple[str, str]:
    """Code name and text of an answer."""
    return error.code().name, error.details()


class BucketUser:
    """One user in one thread."""

    def __init__(self, caller: Any, thread: bytes) -> None:
        self.thread = thread
        self.caller = caller.using(x_textile_thread=multibase_encode(thread))

    @classmethod
    def with_new_thread(cls, caller: Any) -> BucketUser:
        """In a thread of their own."""
        thread = b"\x01\x55" + secrets.token_bytes(32)
        caller.call("threads.pb.API", "NewDB", th.NewDBRequest(dbID=thread))
        return cls(caller, thread)

    def beside(self, caller: Any) -> BucketUser:
        """Another user in the same thread."""
        return BucketUser(caller, self.thread)

    def ask(self, method: str, **fields: Any) -> Any:
        """A unary method, or one that answers with a stream (then a list)."""
        request = getattr(pb, f"{method}Request")(**fields)
        return self.caller.call(BUCKETS, method, request)

    def refused(self, method: str, **fields: Any) -> tuple[str, str]:
        """Code and text of a method that must fail."""
        try:
            answer = self.ask(method, **fields)
        except grpc.RpcError as error:
            return raised(error)
        raise AssertionError(f"{method} answered {answer}")

    def create(self, name: str = "", **fields: Any) -> Any:
        return self.ask("Create", name=name, **fields)

    def root(self, key: str) -> Any:
        return self.ask("Root", key=key).root

    def root_cid(self, key: str) -> bytes:
        return cid_from_text(self.root(key).path.removeprefix("/ipfs/"))

    def listing(self, key: str, path: str = "") -> Any:
        return self.ask("ListPath", key=key, path=path).item

    def names(self, key: str, path: str = "") -> list[str]:
        return [item.name for item in self.listing(key, path).items]

    def pull(self, key: str, path: str) -> bytes:
        return b"".join(reply.chunk for reply in self.ask("PullPath", key=key, path=path))

    def push_events(self, key: str, path: str, data: bytes, root: str = "", chunk: int = CHUNK) -> list[Any]:
        def requests() -> Iterator[Any]:
            yield pb.PushPathRequest(header=pb.PushPathRequest.Header(key=key, path=path, root=root))
            for start in range(0, len(data), chunk):
                yield pb.PushPathRequest(chunk=data[start : start + chunk])

        return [reply.event for reply in self.caller.call(BUCKETS, "PushPath", requests())]

    def push(self, key: str, path: str, data: bytes, root: str = "") -> Any:
        return self.push_events(key, path, data, root)[-1]

    def push_paths(self, key: str, files: dict[str, bytes], root: str = "", paths: Iterable[str] = ()) -> list[Any]:
        return list(self.caller.call(BUCKETS, "PushPaths", self.paths_requests(key, files, root, paths)))

    def paths_requests(self, key: str, files: dict[str, bytes], root: str = "", paths: Iterable[str] = ()) -> Iterator[Any]:
        header = pb.PushPathsRequest.Header(key=key, root=root, paths=list(paths))
        yield pb.PushPathsRequest(header=header)
        for path, data in files.items():
            for start in range(0, len(data), CHUNK):
                chunk = pb.PushPathsRequest.Chunk(path=path, data=data[start : start + CHUNK])
                yield pb.PushPathsRequest(chunk=chunk)
            yield pb.PushPathsRequest(chunk=pb.PushPathsRequest.Chunk(path=path))

    # bucketfs.v1.Blocks

    def blocks(self, method: str, request: Any) -> Any:
        return self.caller.call(BLOCKS, method, request)

    def get_blocks(self, cids: Iterable[bytes]) -> list[Any]:
        replies = self.blocks("Get", bl.GetRequest(cids=list(cids)))
        return [block for reply in replies for block in reply.blocks]

    def put_blocks(self, blocks: Mapping[Cid, bytes], upload: bytes = b"") -> Any:
        messages = [bl.Block(cid=cid, data=data) for cid, data in blocks.items()]
        requests = [bl.PutRequest(blocks=messages[at : at + 4], upload=upload) for at in range(0, len(messages), 4)]
        return self.blocks("Put", iter(requests))

    def missing(self, cids: Iterable[bytes], upload: bytes = b"") -> list[bytes]:
        return list(self.blocks("Missing", bl.MissingRequest(cids=list(cids), upload=upload)).cids)

    def swap(self, key: str, expected: bytes, new: bytes, upload: bytes = b"") -> Any:
        return self.blocks("SwapRoot", bl.SwapRootRequest(key=key, expected=expected, new=new, upload=upload))
