"""The programs that are compared. Each starts with its defaults, except for the options that make it quiet."""

import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

from benchmarks.bench.figures import LAYERS, REFERENCE
from benchmarks.bench.site import BUDGETS, IMPORTS, LIMITS, NO_CREDENTIALS, Credentials, Limited, Running, Site
from support.gateway.processes import Process, clean_environment, free_port, python, running, tool

from manage_api.cli.supervision.services import ALLOCATOR

NGINX = shutil.which("nginx", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
"""The program, where it is installed."""

_NGINX_CONF = """
daemon off;
worker_processes auto;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/client_body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    upstream backend {{
        server 127.0.0.1:{upstream};
        keepalive 512;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass {scheme}://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            {tls}
        }}
    }}
}}
"""
_NGINX_TLS = """
            proxy_ssl_trusted_certificate {authority};
            proxy_ssl_verify on;
            proxy_ssl_name localhost;
            proxy_ssl_server_name on;
"""


class Contestant(NamedTuple):
    """A program that is compared. `single`: the cost of TLS is measured too; `lasting`: the memory is, too.

    `start` starts it at a site, and does not wait until it serves. `is_plain`: all of these requests are for the plain
    path.
    """

    name: str
    about: str
    start: Callable[[Site, str], Running]
    single: bool = True
    lasting: bool = False
    is_plain: bool = True


@contextmanager
def started(contestants: Sequence[Contestant], site: Site) -> Iterator[dict[str, Running]]:
    """Start contestants; they serve when the block begins, and are stopped after it."""
    with ExitStack() as stack:
        found = {}
        for one in contestants:
            found[one.name] = one.start(site, one.name)
            stack.enter_context(running(found[one.name].process))
        for each in found.values():
            each.wait()
        yield found
        for each in found.values():
            each.process.signal(signal.SIGTERM)  # to all at once


def _start_nginx(site: Site, name: str) -> Running:
    assert NGINX is not None
    folder, port = site.place(name).folder, free_port()
    tls = _NGINX_TLS.format(authority=site.authority.file) if site.authority else ""
    scheme = site.url.partition(":")[0]
    text = _NGINX_CONF.format(folder=folder, upstream=site.upstream.port, port=port, scheme=scheme, tls=tls)
    (folder / "nginx.conf").write_text(text)
    command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    return Running(Process(command, env=clean_environment(), log=folder / "log"), port, has_workers=True)


def _start_mitmdump(site: Site, name: str, *, with_addon: bool) -> Running:
    gateway, port = site.place(name), free_port()
    credentials = Credentials.make(gateway) if with_addon else NO_CREDENTIALS
    command = [tool("mitmdump"), "-q", "--mode", f"reverse:{site.url}@127.0.0.1:{port}"]
    command += ["-s", "addon/proxy.py"] if with_addon else []
    return Running(Process(command, env=gateway.env, log=gateway.folder / "log"), port, credentials, settles=1.0)


def _start_launcher(
    site: Site,
    name: str,
    *,
    on_postgresql: bool = False,
    without: str = "",
    limited: Limited = Limited(),  # noqa: B008 - it does not change
    **settings: str,
) -> Running:
    gateway, port = site.place(name, on_postgresql=on_postgresql), free_port()
    credentials = Credentials.make(gateway, limited)
    module = ["benchmarks.bench.less", without] if without else ["addon"]
    env = {**gateway.env, **IMPORTS, **ALLOCATOR, "PROXY_LISTEN": f"127.0.0.1:{port}", **settings}
    process = Process(python("-O", "-m", *module), env=env, log=gateway.folder / "log")
    return Running(process, port, credentials)


def _start_workers(site: Site, name: str, *, on_postgresql: bool) -> Running:
    gateway, port = site.place(name, on_postgresql=on_postgresql), free_port()
    credentials = Credentials.make(gateway)
    env = {**gateway.env, "PROXY_LISTEN": f"127.0.0.1:{port}", "WORKERS": "2"}
    process = Process([tool("llm-proxy"), "proxy"], env=env, log=gateway.folder / "log")
    return Running(process, port, credentials, has_workers=True, says="is up")


CONTESTANTS = (
    Contestant("nginx", "no duty at all: the limit", _start_nginx, is_plain=False),
    Contestant(
        REFERENCE,
        "`mitmdump -q`, no addon: the reference",
        partial(_start_mitmdump, with_addon=False),
        lasting=True,
        is_plain=False,
    ),
    Contestant("mitmdump-addon", "`mitmdump -q -s addon/proxy.py`", partial(_start_mitmdump, with_addon=True)),
    Contestant("launcher-sqlite", "one worker of `./run.sh`, on SQLite", _start_launcher, lasting=True),
    Contestant("launcher-postgresql", "the same on PostgreSQL", partial(_start_launcher, on_postgresql=True)),
    Contestant(
        LAYERS, "launcher-sqlite with `PLAIN_PATH=off`", partial(_start_launcher, PLAIN_PATH="off"), is_plain=False
    ),
    Contestant(
        "2-workers-sqlite", "two workers, on SQLite", partial(_start_workers, on_postgresql=False), single=False
    ),
    Contestant(
        "2-workers-postgresql", "the same on PostgreSQL", partial(_start_workers, on_postgresql=True), single=False
    ),
)
DUTIES = (
    Contestant("without-metering", "launcher-sqlite that reads no usage", partial(_start_launcher, without="metering")),
    Contestant("without-ledger", "the same without the ledger's rows", partial(_start_launcher, without="ledger")),
    Contestant(
        "with-limits",
        "launcher-sqlite with three limits on the token, and two on its project",
        partial(_start_launcher, limited=LIMITS),
    ),
    Contestant(
        "with-budgets",
        "launcher-sqlite with two budgets and a window of tokens on the token, and as many on its project",
        partial(_start_launcher, limited=BUDGETS),
    ),
)
"""They show the cost of a duty, by lacking it (`less.py`) or by having more of it."""
