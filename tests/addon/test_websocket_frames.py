from mitmproxy.test import tflow
from mitmproxy.websocket import WebSocketMessage
from wsproto.frame_protocol import Opcode

from addon.websocket_frames import MAX_BYTES, MAX_FRAMES, WebSocketFrames, trim


def frames(number: int, size: int = 10) -> list[WebSocketMessage]:
    return [WebSocketMessage(Opcode.TEXT, True, b"x" * size) for _ in range(number)]


def test_the_last_frames_are_kept() -> None:
    messages = frames(MAX_FRAMES + 5)
    last = messages[-MAX_FRAMES:]
    trim(messages)
    assert messages == last
    trim(messages)
    assert messages == last


def test_large_frames_are_bounded_by_their_bytes() -> None:
    messages = frames(10, MAX_BYTES // 4)
    trim(messages)
    assert len(messages) == 4


def test_the_newest_frame_stays_whatever_its_size() -> None:
    messages = frames(3, MAX_BYTES * 2)
    newest = messages[-1]
    trim(messages)
    assert messages == [newest]


def test_a_flow_is_trimmed_at_each_frame() -> None:
    flow = tflow.twebsocketflow()
    assert flow.websocket is not None
    flow.websocket.messages = frames(MAX_FRAMES)
    for message in frames(10):
        flow.websocket.messages.append(message)
        WebSocketFrames().websocket_message(flow)
        assert flow.websocket.messages[-1] is message
        assert len(flow.websocket.messages) == MAX_FRAMES
    trim(flow.websocket.messages[:0])
