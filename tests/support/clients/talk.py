"""A client of the Realtime API that asks for one response after the other, over a WebSocket that it keeps."""

import json
from typing import Any, Self

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from support.gateway.processes import DEADLINE

OK = 200


class Talk:
    """A WebSocket to a proxy, opened when it is first needed, and again after it was closed."""

    def __init__(self, url: str) -> None:
        self._url = f"{url.replace('http://', 'ws://')}/v1/realtime?model=gpt-realtime"
        self._socket: ClientConnection | None = None
        self._token = ""
        self._responses = 0
        self._close_code: int | None = None
        self.further = 0
        """Responses that were answered, beside the first of each WebSocket."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def respond(self, token: str) -> int:
        """Ask for a response with a token's value; return 200, or the status that refuses it or its opening."""
        try:
            answer = self._ask(token)
        except InvalidStatus as refused:
            return refused.response.status_code
        if answer["type"] == "error":
            return int(answer["status"])
        self.further += self._responses > 0
        self._responses += 1
        return OK

    def close_code(self) -> int | None:
        """Wait until the other side closes, if it has not yet, and return why."""
        try:
            while self._socket is not None:
                self._socket.recv(DEADLINE)
        except ConnectionClosed as closed:
            self._note(closed)
        return self._close_code

    def _note(self, closed: ConnectionClosed) -> None:
        self._close_code = closed.rcvd.code if closed.rcvd else None

    def _ask(self, token: str) -> dict[str, Any]:
        if self._token != token:
            self.hang_up()
        try:
            return self._ask_once(token)
        except ConnectionClosed as closed:  # after the last response, which was refused, or as the token has ended
            self._note(closed)
            self.hang_up()
            return self._ask_once(token)

    def _ask_once(self, token: str) -> dict[str, Any]:
        """Return the event that ends a response, or refuses it."""
        if self._socket is None:
            headers = {"Authorization": f"Bearer {token}", "X-Demo-Words": "1"}
            self._socket = connect(self._url, additional_headers=headers, compression=None)
            self._token, self._responses = token, 0
        self._socket.send('{"type": "response.create"}')
        while True:
            event: dict[str, Any] = json.loads(self._socket.recv(DEADLINE))
            if event["type"] in {"response.done", "error"}:
                return event
