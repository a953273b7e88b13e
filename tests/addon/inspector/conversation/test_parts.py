from base64 import b64encode

import pytest
from support.gateway.conversations import CHAT, RESPONSES, request

from addon.inspector.conversation.rendering import Format

IMAGE = "data:image/png;base64," + b64encode(bytes(34_000)).decode()


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        ({"type": "text", "text": "two\nlines"}, "two\nlines"),
        ({"type": "refusal", "refusal": "No."}, "[refusal] No."),
        ({"type": "image_url", "image_url": {"url": IMAGE}}, "[image, 34 KB, data: URL image/png]"),
        (
            {"type": "image_url", "image_url": {"url": "https://example.com/x.png", "detail": "high"}},
            "[image, https://example.com/x.png, detail high]",
        ),
        ({"type": "image_url", "image_url": {"url": "data:text/plain,x"}}, "[image, 1 bytes, data: URL text/plain]"),
        ({"type": "input_image", "image_url": IMAGE}, "[image, 34 KB, data: URL image/png]"),
        ({"type": "input_image", "file_id": "file-1"}, "[image, file-1]"),
        (
            {"type": "input_audio", "input_audio": {"data": b64encode(bytes(2_000_000)).decode(), "format": "wav"}},
            "[audio, 2.0 MB, wav]",
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": IMAGE}},
            "[file, a.pdf, 34 KB, data: URL image/png]",
        ),
        ({"type": "input_file", "file_url": "https://example.com/a.pdf"}, "[file, https://example.com/a.pdf]"),
        ({"type": "new", "bytes": "A" * 1000}, '{"type": "new", "bytes": "' + "A" * 80 + '…"}'),
        ("plain", "plain"),
        (7, "7"),
    ],
)
@pytest.mark.parametrize("of", [CHAT, RESPONSES], ids=["chat", "responses"])
def test_texts_are_shown_and_media_are_measured(of: Format, part: object, shown: str) -> None:
    messages = [{"role": "user", "content": [part]}]
    text = request(of, {"messages": messages, "input": messages})
    assert (text or "").endswith(f"── user ──\n{shown}\n")
