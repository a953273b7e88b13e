"""The instructions that a worker executes for a request, and those that it would execute without one of its parts.

    .venv/bin/python tests/benchmarks/instructions.py
    .venv/bin/python tests/benchmarks/instructions.py --without plain --connections 1 32 256
    .venv/bin/python tests/benchmarks/instructions.py --without headers dispatch --rounds 3
    .venv/bin/python tests/benchmarks/instructions.py --without budgets --connections 1 32

They are counted by callgrind (Debian's package valgrind), in user space only. Unlike times, they depend little on what
else the machine does: two rounds differ by one to three per cent, as requests share transactions, and timers run on.
`whole` is the launcher as it is, `plain` the one with PLAIN_PATH=off, `budgets` the one whose token and project have
budgets and windows of tokens; the others lack a patch or a duty of `less.py`.
A share is the saving, of the whole: the median of the rounds. Opening connections is not counted.
"""

import argparse
import asyncio
import itertools
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bench.figures import load_at
from benchmarks.bench.less import DUTIES, PATCHES
from benchmarks.bench.load import HOST, Answer
from benchmarks.bench.messages import request
from benchmarks.bench.report import table
from benchmarks.bench.site import BUDGETS, IMPORTS, Credentials, Limited, Site
from support.gateway.processes import Process, free_port, python, running

from manage_api.cli.supervision.services import ALLOCATOR

WHOLE, PLAIN, BUDGETED = "whole", "plain", "budgets"
WARMING = 200
"""Requests before the count begins."""

PATIENCE = 600.0
"""Seconds for a start, and for a load: under callgrind a request takes some fifty times as long."""

TIMEOUTS = {name: str(int(PATIENCE)) for name in ("STORE_TIMEOUT", "CONNECT_TIMEOUT", "FIRST_BYTE_TIMEOUT")}
KEPT = ("--kept", "120")
"""Has the gateway keep connections to the upstream, however long it takes to come back to them."""

_THRESHOLDS = ("glibc.cpu.x86_rep_stosb_threshold", "glibc.cpu.x86_rep_movsb_threshold")
TUNABLES = {"GLIBC_TUNABLES": ":".join(f"{name}=1000000000" for name in _THRESHOLDS)}
"""Has the C library set and copy memory by other instructions: callgrind counts a repeated one once for each byte."""

_TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)

type Round = dict[tuple[str, int], float]
"""The instructions for a request, in millions, by the part that lacks and the number of connections."""

type Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def measure(site: Site, without: str, connections: int, requests: int) -> float:
    """Return the instructions for a request, in millions."""
    gateway, port = site.place(f"gateway-{len(list(site.folder.iterdir()))}"), free_port()
    credentials = Credentials.make(gateway, BUDGETS if without == BUDGETED else Limited())
    module = ["addon"] if without in {WHOLE, PLAIN, BUDGETED} else ["benchmarks.bench.less", without]
    output = f"--callgrind-out-file={gateway.folder}/callgrind"
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", output, *python("-O", "-m", *module)]
    settings = {
        **TIMEOUTS,
        **TUNABLES,
        "PROXY_LISTEN": f"127.0.0.1:{port}",
        "PLAIN_PATH": "off" if without == PLAIN else "on",
    }
    process = Process(command, env={**gateway.env, **IMPORTS, **ALLOCATOR, **settings}, log=gateway.folder / "log")
    with running(process):
        process.wait_for_port(port, timeout=PATIENCE)
        count = asyncio.run(_send(process, port, request(credentials.token), connections, requests))
        _control(process, "-d")
        time.sleep(1)
        written = [path.read_text(errors="replace") for path in gateway.folder.glob("callgrind*")]
    return sum(int(total) for text in written for total in _TOTALS.findall(text)) / count / 1e6


async def _send(process: Process, port: int, data: bytes, connections: int, requests: int) -> int:
    """Have about so many requests counted, on warm connections; return their number."""
    each = max(2, requests // connections)
    async with asyncio.timeout(PATIENCE):
        opened = [await asyncio.open_connection(HOST, port) for _ in range(connections)]
        await asyncio.gather(*(_ask(one, data, max(2, WARMING // connections)) for one in opened))
        _control(process, "-i", "on")
        await asyncio.gather(*(_ask(one, data, each) for one in opened))
        _control(process, "-i", "off")
    for _, writer in opened:
        writer.close()
    return each * connections


async def _ask(connection: Connection, data: bytes, times: int) -> None:
    """Send a request so many times, each after the answer to the last one."""
    reader, writer = connection
    for _ in range(times):
        writer.write(data)
        answer = Answer()
        while not answer.feed(await reader.read(65536)):
            if reader.at_eof():
                raise ConnectionError("the proxy hung up")
        if answer.status != HTTPStatus.OK:
            raise RuntimeError(f"answered with status {answer.status}")


def _control(process: Process, *options: str) -> None:
    command = ["/usr/bin/env", "callgrind_control", *options, str(process.pid)]
    subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without", nargs="*", choices=(PLAIN, BUDGETED, *PATCHES, *DUTIES), default=[PLAIN, *PATCHES])
    parser.add_argument("--connections", nargs="+", type=int, default=[32])
    parser.add_argument("--requests", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if shutil.which("valgrind") is None:
        parser.error("valgrind is not installed")
    cells = list(itertools.product([WHOLE, *arguments.without], arguments.connections))
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory() as folder, Site.open(Path(folder) / "site", upstream_options=KEPT) as site:
        for number in range(arguments.rounds):
            rounds.append({})
            for name, connections in cells:
                count = rounds[-1][name, connections] = measure(site, name, connections, arguments.requests)
                text = f"round {number + 1}, {name}, {load_at(connections)}: {count:.3f} million"
                print(text, file=sys.stderr, flush=True)
    report(arguments.connections, rounds)


def report(connections: Sequence[int], rounds: Sequence[Round]) -> None:
    """Print a line for each part: the instructions without it, and what it saves."""
    rows = []
    for name in dict.fromkeys(name for name, _ in rounds[0]):
        row = [name]
        for number in connections:
            count = statistics.median(one[name, number] for one in rounds)
            saved = statistics.median(one[name, number] / one[WHOLE, number] - 1 for one in rounds)
            row += [f"{count:.3f}", "" if name == WHOLE else f"{saved:+.1%}"]
        rows.append(row)
    head = [text for number in connections for text in (f"million instructions, {load_at(number)}", "saved")]
    print(table(["without", *head], rows))


if __name__ == "__main__":
    main()
