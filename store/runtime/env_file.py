"""Reads a file `.env`. No line is ignored silently, and no message quotes one: any line may hold a secret."""

import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dotenv import dotenv_values
from dotenv.parser import parse_stream

_USUAL_NAME = re.compile(r"[A-Z_][A-Z0-9_]*|[a-z_][a-z0-9_]*")


class EnvFile(NamedTuple):
    """The content of a file: values and line numbers by name, and its faults."""

    values: Mapping[str, str]
    lines: Mapping[str, int]
    faults: Sequence[str]

    def shown(self, name: str) -> str:
        """Return a name as a message may show it: its line number where the name may be a part of a secret."""
        return name if _USUAL_NAME.fullmatch(name) else f"line {self.lines[name]}"


def read(path: Path) -> EnvFile:
    """Read lines such as `NAME=value` and `export NAME="value"`. A missing file reads as empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        if not os.path.lexists(path):
            return EnvFile({}, {}, [])
        return _unreadable(f"{path} cannot be read: it is a link to a file that is not there")
    except OSError as error:
        return _unreadable(f"{path} cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        return _unreadable(f"{path} is no text in UTF-8")
    if "\0" in text:
        return _unreadable(f"{path} is no text in UTF-8")
    return _parsed(path, text)


def _unreadable(fault: str) -> EnvFile:
    return EnvFile({}, {}, [fault])


def _parsed(path: Path, text: str) -> EnvFile:
    """Read the lines that can be read; the others are faults."""
    readable = ""
    lines: dict[str, int] = {}
    faults: list[str] = []
    for binding in parse_stream(io.StringIO(text)):
        source, line = binding.original
        line += source[: len(source) - len(source.lstrip())].count("\n")  # it may begin with empty lines
        if binding.error or (binding.key is not None and binding.value is None):
            faults.append(f"{path} line {line} cannot be read: write NAME=value, and quotation marks in pairs")
        elif binding.key is not None:
            readable += source
            lines.setdefault(binding.key, line)
    values = dotenv_values(stream=io.StringIO(readable))
    return EnvFile({name: value or "" for name, value in values.items()}, lines, faults)
