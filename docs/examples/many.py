"""Reads several files of a bucket at once, in a program that uses trio.

python many.py BUCKET PATH...
"""

import sys

import trio

import bucketfs


async def main(*arguments: str) -> None:
    name, *paths = arguments
    async with bucketfs.open_hub_async() as hub:
        bucket = await hub.bucket(name)

        async def show(path: str) -> None:
            print(f"{path}: {len(await bucket.read(path))} bytes")

        async with trio.open_nursery() as nursery:
            for path in paths:
                nursery.start_soon(show, path)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
