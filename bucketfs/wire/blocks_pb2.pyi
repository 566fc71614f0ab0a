from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Block(_message.Message):
    __slots__ = ("cid", "data", "missing")
    CID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    cid: bytes
    data: bytes
    missing: bool
    def __init__(self, cid: _Optional[bytes] = ..., data: _Optional[bytes] = ..., missing: bool = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("cids",)
    CIDS_FIELD_NUMBER: _ClassVar[int]
    cids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, cids: _Optional[_Iterable[bytes]] = ...) -> None: ...

class GetReply(_message.Message):
    __slots__ = ("blocks",)
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    blocks: _containers.RepeatedCompositeFieldContainer[Block]
    def __init__(self, blocks: _Optional[_Iterable[_Union[Block, _Mapping]]] = ...) -> None: ...

class GetTreeRequest(_message.Message):
    __slots__ = ("cid", "depth")
    CID_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    cid: bytes
    depth: int
    def __init__(self, cid: _Optional[bytes] = ..., depth: _Optional[int] = ...) -> None: ...

class MissingRequest(_message.Message):
    __slots__ = ("cids", "upload")
    CIDS_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    cids: _containers.RepeatedScalarFieldContainer[bytes]
    upload: bytes
    def __init__(self, cids: _Optional[_Iterable[bytes]] = ..., upload: _Optional[bytes] = ...) -> None: ...

class MissingReply(_message.Message):
    __slots__ = ("cids",)
    CIDS_FIELD_NUMBER: _ClassVar[int]
    cids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, cids: _Optional[_Iterable[bytes]] = ...) -> None: ...

class PutRequest(_message.Message):
    __slots__ = ("blocks", "upload")
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    blocks: _containers.RepeatedCompositeFieldContainer[Block]
    upload: bytes
    def __init__(self, blocks: _Optional[_Iterable[_Union[Block, _Mapping]]] = ..., upload: _Optional[bytes] = ...) -> None: ...

class PutReply(_message.Message):
    __slots__ = ("blocks_received", "blocks_stored", "bytes_received", "bytes_stored")
    BLOCKS_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_STORED_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    BYTES_STORED_FIELD_NUMBER: _ClassVar[int]
    blocks_received: int
    blocks_stored: int
    bytes_received: int
    bytes_stored: int
    def __init__(self, blocks_received: _Optional[int] = ..., blocks_stored: _Optional[int] = ..., bytes_received: _Optional[int] = ..., bytes_stored: _Optional[int] = ...) -> None: ...

class SwapRootRequest(_message.Message):
    __slots__ = ("key", "expected", "new", "upload")
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    NEW_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    key: str
    expected: bytes
    new: bytes
    upload: bytes
    def __init__(self, key: _Optional[str] = ..., expected: _Optional[bytes] = ..., new: _Optional[bytes] = ..., upload: _Optional[bytes] = ...) -> None: ...

class SwapRootReply(_message.Message):
    __slots__ = ("root", "updated_at")
    ROOT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    root: bytes
    updated_at: int
    def __init__(self, root: _Optional[bytes] = ..., updated_at: _Optional[int] = ...) -> None: ...

class MissingBlocks(_message.Message):
    __slots__ = ("cids",)
    CIDS_FIELD_NUMBER: _ClassVar[int]
    cids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, cids: _Optional[_Iterable[bytes]] = ...) -> None: ...

class RootsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RootsReply(_message.Message):
    __slots__ = ("buckets", "bytes_limit", "bytes_used", "buckets_limit", "buckets_used", "threads_limit", "threads_used", "bucket_bytes_limit")
    class Bucket(_message.Message):
        __slots__ = ("key", "name", "thread", "root", "created_at", "updated_at", "private", "owner")
        KEY_FIELD_NUMBER: _ClassVar[int]
        NAME_FIELD_NUMBER: _ClassVar[int]
        THREAD_FIELD_NUMBER: _ClassVar[int]
        ROOT_FIELD_NUMBER: _ClassVar[int]
        CREATED_AT_FIELD_NUMBER: _ClassVar[int]
        UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
        PRIVATE_FIELD_NUMBER: _ClassVar[int]
        OWNER_FIELD_NUMBER: _ClassVar[int]
        key: str
        name: str
        thread: bytes
        root: bytes
        created_at: int
        updated_at: int
        private: bool
        owner: str
        def __init__(self, key: _Optional[str] = ..., name: _Optional[str] = ..., thread: _Optional[bytes] = ..., root: _Optional[bytes] = ..., created_at: _Optional[int] = ..., updated_at: _Optional[int] = ..., private: bool = ..., owner: _Optional[str] = ...) -> None: ...
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    BYTES_LIMIT_FIELD_NUMBER: _ClassVar[int]
    BYTES_USED_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_LIMIT_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_USED_FIELD_NUMBER: _ClassVar[int]
    THREADS_LIMIT_FIELD_NUMBER: _ClassVar[int]
    THREADS_USED_FIELD_NUMBER: _ClassVar[int]
    BUCKET_BYTES_LIMIT_FIELD_NUMBER: _ClassVar[int]
    buckets: _containers.RepeatedCompositeFieldContainer[RootsReply.Bucket]
    bytes_limit: int
    bytes_used: int
    buckets_limit: int
    buckets_used: int
    threads_limit: int
    threads_used: int
    bucket_bytes_limit: int
    def __init__(self, buckets: _Optional[_Iterable[_Union[RootsReply.Bucket, _Mapping]]] = ..., bytes_limit: _Optional[int] = ..., bytes_used: _Optional[int] = ..., buckets_limit: _Optional[int] = ..., buckets_used: _Optional[int] = ..., threads_limit: _Optional[int] = ..., threads_used: _Optional[int] = ..., bucket_bytes_limit: _Optional[int] = ...) -> None: ...
