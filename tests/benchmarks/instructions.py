"""The instructions that a worker executes for a request, and those that it would execute without one of the patches.

    .venv/bin/python tests/benchmarks/instructions.py
    .venv/bin/python tests/benchmarks/instructions.py --without headers --rounds 3

They are counted by callgrind (Debian's package valgrind), in user space only. Unlike times, they depend little on what
else the machine does: two rounds differ by one to three per cent, as requests share transactions, and timers run on.
`whole` is the launcher as it is; for one that lacks a patch (or a duty of `less.py`) the last column has the saving, as
a share of the whole: the median of the rounds.
"""

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bench import jobs
from benchmarks.bench.less import DUTIES, PATCHES
from benchmarks.bench.load import send
from benchmarks.bench.site import IMPORTS, Credentials, Running, Site
from support.gateway.processes import Process, free_port, python, running

from manage_api.cli.supervision.services import ALLOCATOR

WHOLE = "whole"
WARMING = 200
"""Requests before the count begins."""

PATIENCE = 600.0
"""Seconds for a load: under callgrind a request takes some fifty times as long."""

TIMEOUTS = {name: str(int(PATIENCE)) for name in ("STORE_TIMEOUT", "CONNECT_TIMEOUT", "FIRST_BYTE_TIMEOUT")}
_TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)


def measure(site: Site, name: str, without: str, connections: int, requests: int) -> float:
    """Return the instructions for a request, in millions."""
    gateway, port = site.place(name), free_port()
    credentials = Credentials.make(gateway)
    module = ["addon"] if without == WHOLE else ["benchmarks.bench.less", without]
    output = f"--callgrind-out-file={gateway.folder}/callgrind"
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", output, *python("-O", "-m", *module)]
    env = {**gateway.env, **IMPORTS, **ALLOCATOR, **TIMEOUTS, "PROXY_LISTEN": f"127.0.0.1:{port}"}
    process = Process(command, env=env, log=gateway.folder / "log")
    worker = Running(process, port, credentials)
    with running(process):
        worker.wait()
        send(jobs.plain(connections, worker), WARMING, PATIENCE)
        _control(process, "-i", "on")
        send(jobs.plain(connections, worker), requests, PATIENCE)
        _control(process, "-i", "off")
        _control(process, "-d")
        time.sleep(1)
        written = [path.read_text(errors="replace") for path in gateway.folder.glob("callgrind*")]
    return sum(int(total) for text in written for total in _TOTALS.findall(text)) / requests / 1e6


def _control(process: Process, *options: str) -> None:
    command = ["/usr/bin/env", "callgrind_control", *options, str(process.pid)]
    subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without", nargs="*", choices=(*PATCHES, *DUTIES), default=[*PATCHES])
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if shutil.which("valgrind") is None:
        parser.error("valgrind is not installed")
    names = [WHOLE, *arguments.without]
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder, Site.open(Path(folder) / "site") as site:
        for number in range(arguments.rounds):
            rounds.append({})
            for name in names:
                count = measure(site, f"{name}-{number}", name, arguments.connections, arguments.requests)
                rounds[-1][name] = count
                print(f"round {number + 1}, {name}: {count:.3f} million", file=sys.stderr, flush=True)
    report(names, rounds)


def report(names: Sequence[str], rounds: Sequence[dict[str, float]]) -> None:
    """Print a line for each name."""
    print("| without | million instructions a request | saved |\n| --- | --- | --- |")
    for name in names:
        count = statistics.median(one[name] for one in rounds)
        saved = statistics.median((one[name] - one[WHOLE]) / one[WHOLE] for one in rounds)
        print(f"| {name} | {count:.3f} | {'' if name == WHOLE else f'{saved:+.1%}'} |")


if __name__ == "__main__":
    main()
