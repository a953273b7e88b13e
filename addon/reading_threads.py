"""The threads that read large bodies and events for `addon/reading/`: the event loop goes on with other requests."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from store.request import Reading

AT_ONCE = 32 * 1024
"""Bytes that are read on the event loop. The worst take 6 ms there; those of 1 MiB take 450 ms."""

_THREADS = ThreadPoolExecutor(2, "reading")
"""They are none of asyncio's own threads: names of hosts are looked up there, and must not wait."""


async def run(read: Callable[[], Reading], size: int | None) -> Reading:
    """Read something of a size in bytes, None for one that is not known. Raises what `read` raises."""
    if size is not None and size <= AT_ONCE:
        return read()
    return await asyncio.get_running_loop().run_in_executor(_THREADS, read)
