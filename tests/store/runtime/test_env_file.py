import os
import threading
from pathlib import Path

import pytest

from store.runtime import env_file
from store.runtime.env_file import EnvFile

SECRET = "hush-hush"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def read(file: Path, content: str | bytes) -> EnvFile:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return env_file.read(file)


def test_lines_are_read_as_a_shell_writes_them(file: Path) -> None:
    found = read(file, "\ufeff# a comment\n\nA=1\r\nexport B='two words' # said\n C = \"three\\nlines\"\nD=\nE=${A}1\n")
    assert found.values == {"A": "1", "B": "two words", "C": "three\nlines", "D": "", "E": "11"}
    assert found.lines == {"A": 3, "B": 4, "C": 5, "D": 6, "E": 7}
    assert found.faults == []


@pytest.mark.parametrize("content", ["", "\n", "# A=1", "\n \n\t\n"])
def test_a_file_without_lines_is_empty(file: Path, content: str) -> None:
    assert read(file, content) == EnvFile({}, {}, [])


def test_a_missing_file_is_empty(file: Path) -> None:
    assert env_file.read(file) == EnvFile({}, {}, [])


@pytest.mark.parametrize(
    "line",
    [
        f"A {SECRET}",
        f"A: {SECRET}",
        f"A:{SECRET}",
        SECRET,
        f"export {SECRET}",
        f"={SECRET}",
        f'A="{SECRET}',
        f'A="{SECRET}"{SECRET}',
        f"A='it's {SECRET}'",
        f"A='{SECRET}' B={SECRET}",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_that_cannot_be_read_is_named_by_its_number_alone(file: Path, line: str, end: str) -> None:
    found = read(file, end.join(["FIRST=1", "", "# 3", line, "LAST=5", f"{SECRET} {SECRET}"]))
    assert found.faults == [
        f"{file} line {number} cannot be read: write NAME=value, and quotation marks in pairs" for number in (4, 6)
    ]
    assert found.values == {"FIRST": "1", "LAST": "5"}


@pytest.mark.parametrize("content", [b"A=\xff", b"\xff\xfeA\x00=\x00", b"A\x00=\x001\x00\n\x00"])
def test_a_file_that_is_no_text_is_a_fault(file: Path, content: bytes) -> None:
    assert read(file, content) == EnvFile({}, {}, [f"{file} is no text in UTF-8"])


def test_a_folder_in_its_place_is_a_fault(file: Path) -> None:
    file.mkdir()
    assert env_file.read(file).faults == [f"{file} cannot be read: Is a directory"]


def test_a_link_that_leads_nowhere_is_a_fault(file: Path) -> None:
    file.symlink_to("nowhere")
    assert env_file.read(file).faults == [f"{file} cannot be read: it is a link to a file that is not there"]
    file.unlink()
    file.symlink_to(file)
    assert env_file.read(file).faults == [f"{file} cannot be read: Too many levels of symbolic links"]


def test_a_pipe_is_read_once(file: Path) -> None:
    os.mkfifo(file)
    writer = threading.Thread(target=file.write_text, args=("A=1\n",))
    writer.start()
    assert env_file.read(file).values == {"A": "1"}
    writer.join(5)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("COMPOSE_FILE", "COMPOSE_FILE"),
        ("compose_file", "compose_file"),
        ("app.name", "line 2"),
        ("kD3Jq0zTqk1FZ0FZyqgQTTF4PpV3", "line 2"),  # the end of a key that was broken into two lines
    ],
)
def test_a_name_that_may_be_a_part_of_a_secret_is_shown_as_its_line_number(file: Path, name: str, shown: str) -> None:
    assert read(file, f"A=1\n{name}==\n").shown(name) == shown
