"""Runs the program in forks of a process that has imported it: an import takes a second of a processor each time.

A request on the socket is a JSON object, with two open files: where the output goes, and a pipe for the exit status.
The response is the process id.
"""

import ctypes
import gc
import json
import os
import runpy
import selectors
import socket
import sys
from pathlib import Path
from typing import NamedTuple

MAX_REQUEST = 2**18
RIGHTS = (1, 2, 10)
"""CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_NET_BIND_SERVICE: they let root pass over permissions."""


class Request(NamedTuple):
    """A command to run, in a folder, with an environment, and with or without the rights of root."""

    command: list[str]
    cwd: str
    env: dict[str, str]
    has_rights: bool


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    sys.path[0] = str(Path.cwd())  # as `python -m` has it: the sources beside these tests, not those that are installed
    _import_program()
    gc.freeze()  # or each fork looks through all of it at its end, for half a second
    if len([*Path("/proc/self/task").iterdir()]) > 1:
        raise RuntimeError("A process with threads cannot be forked: an import has started one.")
    request = _serve(control)
    if request is not None:
        _run(request)


def _import_program() -> None:
    from addon.serving import lean_imports  # noqa: PLC0415 - as the launcher does, before anything of mitmproxy

    lean_imports.install()
    import manage_api.app  # noqa: PLC0415
    import manage_api.cli.commands  # noqa: PLC0415
    import manage_api.cli.starting  # noqa: PLC0415
    import manage_api.server  # noqa: F401, PLC0415


def _serve(control: socket.socket) -> Request | None:
    """Fork for each request. Returns the request in its own process, and None here once the other end is closed."""
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not control:
                    selector.unregister(key.fileobj)
                    _report_end(*key.data)
                    os.close(key.fd)
                    continue
                message, files, _, _ = socket.recv_fds(control, MAX_REQUEST, 2)
                if not message:
                    return None
                output, status = files
                pid = os.fork()
                if not pid:
                    os.dup2(output, 1)
                    os.dup2(output, 2)
                    control.detach()
                    return Request(*json.loads(message))
                os.close(output)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, status))
                control.send(str(pid).encode())


def _report_end(pid: int, status: int) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(status, str(code).encode())
    os.close(status)


def _run(request: Request) -> None:
    """Become the program: only the imports of this process stay."""
    os.closerange(3, 4096)
    os.setpgid(0, 0)
    os.chdir(request.cwd)
    os.environ.clear()
    os.environ.update(request.env)
    if not request.has_rights:
        _drop_rights()
    sys.path[0] = request.cwd
    arguments = request.command[1:]
    if arguments[:1] == ["-m"]:
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        from manage_api.cli import commands  # noqa: PLC0415

        sys.argv = request.command
        commands.main()


def _drop_rights() -> None:
    """Drop the rights that let root ignore permissions, and all ways to regain them (capabilities(7))."""
    libc = ctypes.CDLL(None, use_errno=True)
    for right in RIGHTS:
        libc.prctl(24, right, 0, 0, 0)  # PR_CAPBSET_DROP
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, data)
    for part in range(3):  # effective, permitted, inheritable: the first 32 of each
        data[part] &= ~sum(1 << right for right in RIGHTS)
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
    main()
