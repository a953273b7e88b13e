"""`WebSocket /v1/realtime`: a conversation in text, with the events of the Realtime API's general release.

It understands the client events `session.update`, `conversation.item.create` and `response.create`, and answers any
other with an `error` event. It has no audio. It confirms a new item by `conversation.item.added` and `.done`, which
replaced the beta's `conversation.item.created`.
"""

import asyncio
import json
import secrets
from contextlib import aclosing, suppress
from typing import Any

from tornado.web import Finish
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from manage_api.demo.errors import ApiError, invalid_request, missing_parameter
from manage_api.demo.handler import ApiHandler
from manage_api.demo.text import Message, Reply, read_messages, reply_to
from manage_api.demo.tokens import realtime_usage

SWITCHING_PROTOCOLS = 101


class Realtime(ApiHandler, WebSocketHandler):
    """One realtime session. It accepts any Origin, as the key authenticates the client."""

    def prepare(self) -> None:
        """Raise unless this is an upgrade with the key, a model and valid headers."""
        super().prepare()
        if not self._is_upgrade():
            raise invalid_request("The Realtime API is spoken over WebSocket (RFC 6455) only.")
        self.model = self.get_query_argument("model", "")
        if not self.model:
            raise missing_parameter("model")
        _ = self.wanted_words, self.chunk_delay  # raises for bad headers before the upgrade

    def _is_upgrade(self) -> bool:
        """Tell whether this is a valid upgrade. tornado checks that too, but its error has another form."""
        headers = self.request.headers
        return (
            headers.get("Upgrade", "").lower() == "websocket"
            and "upgrade" in headers.get("Connection", "").lower()
            and headers.get("Sec-WebSocket-Version") == "13"
            and bool(headers.get("Sec-WebSocket-Key"))
        )

    def check_origin(self, origin: str) -> bool:  # noqa: ARG002 - tornado's signature
        """Accept any Origin."""
        return True

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Select `realtime` where it is offered."""
        return "realtime" if "realtime" in subprotocols else None

    def on_finish(self) -> None:
        """Record the end of a request that was not upgraded. `on_close` records that of a session."""
        if self.get_status() != SWITCHING_PROTOCOLS:
            super().on_finish()

    def on_connection_close(self) -> None:
        """Leave the record to `on_close`."""
        WebSocketHandler.on_connection_close(self)

    def on_close(self) -> None:
        """Record whether the client sent a close frame, and stop the response."""
        self.entry.finished = self.close_code is not None
        self.entry.hung_up = not self.entry.finished
        self.gone.set()

    async def open(self, *args: str, **kwargs: str) -> None:  # noqa: ARG002 - tornado's signature
        """Start an empty conversation."""
        self.messages: list[Message] = []
        self.last_item: str | None = None
        self.responding: asyncio.Task[None] | None = None
        self.session: dict[str, Any] = {
            "type": "realtime",
            "object": "realtime.session",
            "id": _id("sess"),
            "model": self.model,
            "output_modalities": ["text"],
            "instructions": "",
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
        }
        await self.send_event("session.created", session=self.session)

    async def on_message(self, message: str | bytes) -> None:
        """Handle one event of the client."""
        event: dict[str, Any] = {}
        try:
            event = _parse(message)
            await self._answer(event)
        except ApiError as error:
            await self.send_event("error", error={**error.body["error"], "event_id": event.get("event_id")})

    async def send_event(self, kind: str, **fields: Any) -> None:
        """Send an event. Does nothing if the client is gone."""
        with suppress(WebSocketClosedError):
            await self.write_message(json.dumps({"type": kind, "event_id": _id("event"), **fields}))

    async def _answer(self, event: dict[str, Any]) -> None:
        match event.get("type"):
            case "session.update":
                self.session |= _object(event, "session")
                await self.send_event("session.updated", session=self.session)
            case "conversation.item.create":
                await self._add_item(_object(event, "item"))
            case "response.create":
                self._start_response()
            case kind:
                raise invalid_request(f"The demo upstream does not understand '{kind}'.", param="type")

    async def _add_item(self, given: dict[str, Any]) -> None:
        self.messages += read_messages([given], "item")
        await self._confirm({"id": _id("item"), "object": "realtime.item", "status": "completed", **given})

    async def _confirm(self, item: dict[str, Any]) -> None:
        await self.send_event("conversation.item.added", previous_item_id=self.last_item, item=item)
        await self.send_event("conversation.item.done", previous_item_id=self.last_item, item=item)
        self.last_item = item["id"]

    def _start_response(self) -> None:
        """Respond in the background, so that a close frame is noticed."""
        if self.responding and not self.responding.done():
            raise invalid_request(
                "The conversation already has an active response.",
                code="conversation_already_has_active_response",
            )
        self.responding = asyncio.create_task(self._respond())

    async def _respond(self) -> None:
        """Answer the last user message of the conversation."""
        instructions = Message("system", str(self.session["instructions"]))
        reply = reply_to([instructions, *self.messages], self.wanted_words)
        response = _response()
        await self.send_event("response.created", response=response)
        with suppress(Finish):
            item = await self._send_item(reply, response["id"])
            self.messages.append(Message("assistant", reply.text))
            usage = realtime_usage(reply.input_tokens, reply.output_tokens)
            completed = {**response, "status": "completed", "output": [item], "usage": usage}
            await self.send_event("response.done", response=completed)

    async def _send_item(self, reply: Reply, response_id: str) -> dict[str, Any]:
        """Send the one message of a response, word by word, and return it."""
        item = _message()
        within = {"response_id": response_id, "output_index": 0}
        part = {**within, "item_id": item["id"], "content_index": 0}
        await self.send_event("response.output_item.added", **within, item=item)
        await self.send_event("response.content_part.added", **part, part={"type": "text", "text": ""})
        async with aclosing(self.paced(reply.words)) as words:
            async for word in words:
                await self.send_event("response.output_text.delta", **part, delta=word)
        content = [{"type": "output_text", "text": reply.text}]
        item = {**item, "status": "completed", "content": content}
        await self.send_event("response.output_text.done", **part, text=reply.text)
        await self.send_event("response.content_part.done", **part, part={"type": "text", "text": reply.text})
        await self._confirm(item)
        await self.send_event("response.output_item.done", **within, item=item)
        return item


def _parse(message: str | bytes) -> dict[str, Any]:
    try:
        event = json.loads(message)
    except ValueError as error:
        raise invalid_request("We could not parse the JSON of your event.") from error
    if not isinstance(event, dict):
        raise invalid_request("An event must be a JSON object.")
    return event


def _object(event: dict[str, Any], name: str) -> dict[str, Any]:
    value = event.get(name)
    if not isinstance(value, dict):
        raise missing_parameter(name)
    return value


def _response() -> dict[str, Any]:
    return {
        "object": "realtime.response",
        "id": _id("resp"),
        "status": "in_progress",
        "status_details": None,
        "output": [],
        "conversation_id": None,
        "output_modalities": ["text"],
        "max_output_tokens": "inf",
        "usage": None,
        "metadata": None,
    }


def _message() -> dict[str, Any]:
    return {
        "id": _id("item"),
        "object": "realtime.item",
        "type": "message",
        "status": "in_progress",
        "role": "assistant",
        "content": [],
    }


def _id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(10)}"
