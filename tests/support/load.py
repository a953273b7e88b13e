"""Requests and changes without a pause, while a test does something else."""

import itertools
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

import httpx

from support.gateway import Gateway, bearer
from support.stores import API_KEY


class Load:
    """Clients that send requests, and operators that replace the keys of projects, until the end of the block."""

    def __init__(self, gateway: Gateway, tokens: Sequence[dict[str, Any]], projects: Sequence[str] = ()) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self.last_keys: dict[str, str] = {}
        self._gateway = gateway
        self._done = threading.Event()
        self._threads = [
            *(threading.Thread(target=self._send, args=(token,)) for token in tokens),
            *(threading.Thread(target=self._patch, args=(project_id,)) for project_id in projects),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _send(self, token: dict[str, Any]) -> None:
        with httpx.Client(base_url=self._gateway.url, headers=bearer(token), timeout=30) as client:
            while not self._done.is_set():
                self.answers[token["id"], client.get("/v1/models").status_code] += 1

    def _patch(self, project_id: str) -> None:
        for number in itertools.count():
            if self._done.is_set():
                return
            key = f"{API_KEY}-{number}"
            self._gateway.manage("PATCH", f"/manage/projects/{project_id}", {"api_key": key}).raise_for_status()
            self.last_keys[project_id] = key
