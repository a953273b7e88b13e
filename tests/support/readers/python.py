"""Python's readers of bodies, and simulated ones that are laxer than any known."""

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from io import BytesIO

import yaml
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

with contextlib.suppress(ModuleNotFoundError):  # `external.missing` tells so
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import create_form_parser

logging.getLogger("python_multipart.multipart").setLevel(logging.CRITICAL)  # it tells of each form that it rejects

type Found = list[list[object]] | None
"""The fields of a form whose names hold `model`, and their texts; None where the reader rejects the form."""

type _Pairs = Sequence[tuple[str, object]]


def read_json(body: bytes) -> list[object]:
    """Return what each reader makes of `model`: a text, 0 where it finds none, None where it rejects the body."""
    return [_model(body, read) for read in _READERS]


def _model(body: bytes, read: Callable[[bytes], object]) -> object:
    try:
        found = read(body)
    except (ValueError, RecursionError, yaml.YAMLError):
        return None
    if not isinstance(found, dict):
        return None
    return found["model"] if isinstance(found.get("model"), str) else 0


def _text(body: bytes) -> object:
    return json.loads(body.decode())


def _text_with_bom(body: bytes) -> object:
    return json.loads(body.decode("utf-8-sig"))


def _lenient_text(body: bytes) -> object:
    return json.loads(body.decode(errors="replace"), strict=False)


def _first(body: bytes) -> object:
    """Keep the first of repeated names."""
    return json.loads(body, object_pairs_hook=lambda pairs: dict(reversed(pairs)))


def _first_value(body: bytes) -> object:
    """Ignore what comes after the first value."""
    return json.JSONDecoder().raw_decode(body.decode(errors="replace").strip())[0]


def _folding(pairs: _Pairs) -> dict[str, object]:
    return {name.partition("\0")[0].strip().lower(): value for name, value in pairs}


def _last_folded(body: bytes) -> object:
    return json.loads(body, object_pairs_hook=_folding)


def _first_folded(body: bytes) -> object:
    return json.loads(body, object_pairs_hook=lambda pairs: _folding([*reversed(pairs)]))


_READERS: Sequence[Callable[[bytes], object]] = (
    json.loads, _text, _text_with_bom, _lenient_text, _first, _first_value, _last_folded, _first_folded,
)  # fmt: skip


def read_yaml(body: bytes) -> object:
    """Return what a reader of YAML makes of `model`; it takes JSON as well, and is slow."""
    return _model(body, yaml.safe_load)


def read_form(content_type: bytes, body: bytes) -> list[Found]:
    """Return the fields that each reader finds."""
    return [_by_werkzeug(content_type, body), _by_python_multipart(content_type, body), _by_email(content_type, body)]


def _by_werkzeug(content_type: bytes, body: bytes) -> Found:
    """Read as Flask does."""
    kind, options = parse_options_header(content_type.decode("latin-1"))
    try:
        _, form, files = FormDataParser(_in_memory, silent=False).parse(BytesIO(body), kind, len(body), options)
    except ValueError:
        return None
    return _of_models([*form.items(multi=True), *((name, 0) for name in files)])


def _in_memory(*_: object, **__: object) -> BytesIO:
    return BytesIO()


def _by_python_multipart(content_type: bytes, body: bytes) -> Found:
    """Read as Starlette and FastAPI do."""
    fields: list[tuple[str, object]] = []
    try:
        parser = create_form_parser(
            {"Content-Type": content_type},
            lambda field: fields.append((_shown(field.field_name), _shown(field.value))),
            lambda file: fields.append((_shown(file.field_name), 0)),
        )
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError):
        return None
    return _of_models(fields)


def _by_email(content_type: bytes, body: bytes) -> Found:
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type + b"\r\n\r\n" + body)
    try:
        return _of_models([*_named_parts(message)]) if message.is_multipart() and not message.defects else None
    except Exception:
        return None  # its readers of headers fail in many ways


def _named_parts(message: Message) -> Iterator[tuple[str, object]]:
    for part in message.walk():
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        if isinstance(payload, bytes) and name is not None:
            yield str(name), _shown(payload)


def _of_models(fields: Sequence[tuple[str | None, object]]) -> list[list[object]]:
    return [[name, value] for name, value in fields if name and "model" in name.lower()]


def _shown(data: bytes | None) -> str:
    return (data or b"").decode(errors="replace")
