"""The machine: its description, and the use that a process makes of it."""

import os
import platform
import re
import sqlite3
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

_VERSION = re.compile(r"\d+(\.\d+)+")
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far, user and system, without that of its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process (VmRSS) in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return int(kib) / 1024


def describe() -> dict[str, str]:
    """Return the properties on which the figures depend."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": _processor(),
        "kernel": platform.release().partition("-")[0],
        "Python": platform.python_version(),
        "mitmproxy": version("mitmproxy"),
        "SQLite": sqlite3.sqlite_version,
    }


def version_of(program: str | Path, option: str) -> str:
    """Return the first version in the output of a program."""
    done = subprocess.run([program, option], check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    found = _VERSION.search(done.stdout)
    return found[0] if found else done.stdout.strip()


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
