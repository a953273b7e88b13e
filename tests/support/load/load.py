"""Requests and changes without a pause, while a test does something else."""

import functools
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import httpx

from support.gateway.gateway import Gateway, bearer
from support.stores.stores import API_KEY


class Busy:
    """Threads that do something over and over until the end of the block: each runs one of the acts until `done`."""

    def __init__(self, acts: Iterable[Callable[[], object]]) -> None:
        self.done = threading.Event()
        self._threads = [threading.Thread(target=act) for act in acts]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        for thread in self._threads:
            thread.join()


class Load(Busy):
    """Clients that send requests, and operators that replace the keys of projects, until the end of the block."""

    def __init__(self, gateway: Gateway, tokens: Sequence[dict[str, Any]], projects: Sequence[str] = ()) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self.last_keys: dict[str, str] = {}
        self._gateway = gateway
        sending = (functools.partial(self._send, token) for token in tokens)
        patching = (functools.partial(self._patch, project_id) for project_id in projects)
        super().__init__((*sending, *patching))

    def _send(self, token: dict[str, Any]) -> None:
        with httpx.Client(base_url=self._gateway.url, headers=bearer(token), timeout=30) as client:
            while not self.done.is_set():
                self.answers[token["id"], client.get("/v1/models").status_code] += 1

    def _patch(self, project_id: str) -> None:
        for number in itertools.count():
            if self.done.is_set():
                return
            key = f"{API_KEY}-{number}"
            self._gateway.manage("PATCH", f"/manage/projects/{project_id}", {"api_key": key}).raise_for_status()
            self.last_keys[project_id] = key
