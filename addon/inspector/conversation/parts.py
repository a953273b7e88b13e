"""Writes the content of a message: texts unchanged; images, sounds and files as their size, never their bytes."""

from addon.inspector.conversation.layout import lines, size
from addon.protocol.json_fields import Fields, brief, fields, shortened, text

_TEXTS = {"text", "input_text", "output_text", "summary_text", "reasoning_text"}
_IMAGES = {"image_url", "input_image"}
_FILES = {"file", "input_file"}
_LONG_URL = 300
_LONG_TYPE = 80


def content_text(content: object) -> str:
    """Return the text of a message's content: of a text, or of parts one below the other."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return lines(*(_part_text(part) for part in content))
    return "" if content is None else brief(content)


def call_text(name: str, arguments: str, call_id: str) -> str:
    """Return the text of a call of a tool."""
    return f"→ {name or '?'}({arguments}){f'  [{call_id}]' if call_id else ''}"


def refusal_text(refusal: str) -> str:
    """Return the text of a refusal, or nothing."""
    return f"[refusal] {refusal}" if refusal else ""


def reasoning_text(reasoning: str) -> str:
    """Return the text of a model's reasoning, or nothing."""
    return f"[reasoning] {reasoning}" if reasoning else ""


def media_text(kind: str, *facts: str) -> str:
    """Return the placeholder of an image, a sound or a file."""
    return f"[{', '.join(filter(None, [kind, *facts]))}]"


def base64_size(encoded: str) -> str:
    """Return the decoded size of base64, or nothing."""
    return size(len(encoded) * 3 // 4 - encoded[-2:].count("=")) if encoded else ""


def _part_text(part: object) -> str:
    if isinstance(part, str):
        return part
    held = fields(part)
    kind = text(held, "type")
    if kind in _TEXTS:
        return text(held, "text")
    if kind == "refusal":
        return refusal_text(text(held, "refusal"))
    return _media_text(kind, held) or brief(part)


def _media_text(kind: str, part: Fields) -> str:
    if kind in _IMAGES:
        return _image_text(part)
    if kind in _FILES:
        return _file_text(fields(part, "file") or part)
    if kind == "input_audio":
        audio = fields(part, "input_audio")
        return media_text("audio", base64_size(text(audio, "data")), text(audio, "format"))
    return ""


def _image_text(part: Fields) -> str:
    image = fields(part, "image_url")  # in responses a text
    url = text(image, "url") or text(part, "image_url")
    detail = text(image, "detail") or text(part, "detail")
    return media_text("image", _url_text(url), text(part, "file_id"), detail and f"detail {detail}")


def _file_text(file: Fields) -> str:
    data, url = text(file, "file_data"), text(file, "file_url")
    held = _url_text(data) if data.startswith("data:") else base64_size(data)
    return media_text("file", text(file, "filename"), held, _url_text(url), text(file, "file_id"))


def _url_text(url: str) -> str:
    if not url.startswith("data:"):
        return shortened(url, _LONG_URL)
    head, _, data = url.partition(",")
    held = base64_size(data) if head.endswith(";base64") else size(len(data))
    return f"{held}, data: URL {shortened(head[5:].partition(';')[0], _LONG_TYPE)}"
