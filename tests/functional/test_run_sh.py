"""`./run.sh`, used as in the README and in docs/getting-started.md."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from support.gateway.installation import Installation, children, started
from support.gateway.processes import DEADLINE, ROOT, Process, clean_environment, tool, wait_until
from support.network.forward_proxy import ForwardProxy
from support.pages import DOCS, VARYING, blocks, steps, without_chance
from support.stores.stores import API_KEY, make_settings, opened, tree
from support.upstreams.upstreams import KEY, DemoUpstream

pytestmark = pytest.mark.timeout(300)  # the first start may have to install


@pytest.fixture
def installation(tmp_path: Path, upstream: DemoUpstream) -> Installation:
    return Installation(tmp_path, UPSTREAM_URL=upstream.url)


class Site(NamedTuple):
    """A start of `./run.sh` that several tests share; none of them ends it."""

    installation: Installation
    process: Process


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, upstream: DemoUpstream, path: str) -> Iterator[Site]:
    """A first start."""
    installation = Installation(tmp_path_factory.mktemp("start"), UPSTREAM_URL=upstream.url, PLAIN_PATH=path)
    with started(installation) as process:
        yield Site(installation, process)
        assert process.stop() == 0
    assert installation.ports_are_free()


@pytest.fixture(scope="module")
def forward() -> Iterator[ForwardProxy]:
    with ForwardProxy({}) as forward:
        yield forward


PROXIES = ("HTTP_PROXY", "https_proxy", "http_proxy")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, forward: ForwardProxy, path: str) -> Iterator[Site]:
    """A demo in an environment that sets a proxy; the demo does not need it."""
    settings = {"PLAIN_PATH": path} | dict.fromkeys(PROXIES, f"http://127.0.0.1:{forward.port}")
    installation = Installation(tmp_path_factory.mktemp("demo"), **settings)
    with started(installation, "demo", until="How often") as process:
        yield Site(installation, process)
        assert process.stop() == 0
    assert installation.ports_are_free()
    assert not installation.data.exists()


def shell(command: str) -> str:
    """Run a printed command in a shell, and return its output."""
    done = subprocess.run(["/bin/bash", "-c", command], capture_output=True, text=True, timeout=DEADLINE, check=True)
    return done.stdout


def test_the_first_start_makes_everything_and_prints_a_curl_line_that_works(site: Site) -> None:
    installation, output = site.installation, site.process.output()
    assert output.index("Starting LLM Proxy ...\n") < output.index(" is up.")
    assert f"http://127.0.0.1:{installation.proxy}/v1" in output
    token_file = installation.data / "management_token"
    assert str(token_file) in output
    assert token_file.stat().st_mode & 0o777 == 0o600
    curl = next(line for line in output.splitlines() if line.lstrip().startswith("curl "))
    assert shell(f"{curl} --silent --fail") == "[]\n"
    assert httpx.get(f"http://127.0.0.1:{installation.proxy}/v1/models").status_code == 401


class Session:
    """A reader who types what a page shows, at a gateway that listens on other ports and gives out other ids."""

    def __init__(self, installation: Installation) -> None:
        self._env = {**installation.env, "SHELLOPTS": "errexit:pipefail"}
        self._real = {
            "127.0.0.1:8080": f"127.0.0.1:{installation.proxy}",
            "127.0.0.1:8081": f"127.0.0.1:{installation.manage}",
            "$(cat data/": f"$(cat {installation.data}/",
        }

    def real(self, text: str) -> str:
        """Return a text of the page as it has to be typed here."""
        for shown, real in self._real.items():
            text = text.replace(shown, real)
        return text

    def learn(self, shown: str, printed: str) -> None:
        """Take the ids and values that were printed for those of the page."""
        pairs = zip(VARYING.finditer(shown), VARYING.finditer(printed), strict=True)
        self._real |= {one.group(): other.group() for one, other in pairs if one.lastgroup == "id"}

    def run(self, command: str, given: str = "", **variables: str) -> str:
        """Type a command, or several, in a shell in the folder of run.sh."""
        return subprocess.run(
            ["/bin/bash", "-c", self.real(command)],
            env=self._env | variables,
            cwd=ROOT,
            input=given,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=True,
        ).stdout

    def python(self, snippet: str) -> str:
        command = [sys.executable, "-c", self.real(snippet)]
        return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=True).stdout


def test_the_session_of_getting_started_prints_what_the_page_shows(site: Site) -> None:
    page = (DOCS / "getting-started.md").read_text()
    session = Session(site.installation)
    scripts = [block.text for block in blocks(page) if block.language == "sh"]
    (snippet,) = [block.text for block in blocks(page) if block.language == "python"]
    (request,) = [script for script in scripts if "/v1/chat/completions" in script]
    (management,) = [script for script in scripts if script.startswith("manage=")]
    for command, output in steps(page):
        if command == "./run.sh":  # `site` did that
            continue
        if "/token " in command:
            assert session.python(snippet) == "This is the demo upstream, no model was asked. You said: Hello!\n"
            assert "You said: Hello!" in session.run(request)
        if command.startswith("curl"):
            assert json.loads(session.run(command)).keys() == json.loads(output).keys()
            continue
        # Without a terminal, a key comes from standard input, and a question needs an answer in advance.
        printed = session.run(f"{command} --yes" if " revoke " in command else command, f"{KEY}\n")
        shown = re.sub(r"^The upstream's API key.*\n|.* Go on\? .*\n", "", output)
        assert without_chance(printed) == without_chance(shown), command
        session.learn(shown, printed)
    project, token = (session.real(re.search(rf"^{name} +(\S+)$", page, re.MULTILINE)[1]) for name in ("id", "token"))  # type: ignore[index]
    fails = 'curl() { command curl --silent --show-error --fail "$@"; }\n'
    ever = management.replace("expiresBefore=2027-01-01", "expiresBefore=2999-01-01")
    assert ever != management
    answers = session.run(fails + ever, project=project, token=token)
    assert answers.count('"name":"Search"') == 1
    assert (answers.count('"name":"Nightly index"'), answers.count('"max_requests":1000')) == (4, 2)


@pytest.mark.soak("manage_api/cli", "store/operations")
def test_a_second_start_keeps_the_key_and_the_management_token(installation: Installation) -> None:
    with started(installation):
        pass
    data = installation.folder / "data"
    before = [(data / name).read_text() for name in ("encryption_key", "management_token")]
    with started(installation):
        assert [(data / name).read_text() for name in ("encryption_key", "management_token")] == before


def test_a_removed_management_token_is_replaced_at_a_hangup(site: Site) -> None:
    installation, process = site
    file = installation.data / "management_token"
    url = f"http://127.0.0.1:{installation.manage}/manage/projects"

    def status(token: str) -> int:
        return httpx.get(url, headers={"Authorization": f"Bearer {token}"}).status_code

    old = file.read_text().strip()
    file.unlink()
    process.signal(signal.SIGHUP)
    process.wait_for_output("Replaced; ")
    assert (status(old), status(file.read_text().strip())) == (401, 200)


@pytest.mark.soak("manage_api/cli")  # in the suite: test_stop.py has a Ctrl-C
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_ends_everything(installation: Installation, number: signal.Signals) -> None:
    with started(installation) as process:
        os.killpg(process.pid, number)
        assert process.wait() == 0
    assert installation.ports_are_free()


def test_a_process_that_dies_is_replaced(site: Site) -> None:
    installation, process = site
    wait_until(lambda: len(children(process.pid)) == 2)  # those that were replaced may still be ending
    before = children(process.pid)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    for port in (installation.proxy, installation.manage):  # a request waits for the new process
        assert httpx.get(f"http://127.0.0.1:{port}/ready", timeout=DEADLINE).status_code == 200
    assert not set(children(process.pid)) & set(before)
    assert process.output().count("ended with status -9; starting another one") == 2


def test_a_killed_supervisor_takes_its_processes_along(installation: Installation) -> None:
    with started(installation) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    installation.wait_until_nothing_runs()


def test_the_same_port_twice_is_rejected(installation: Installation) -> None:
    installation.env["MANAGE_LISTEN"] = installation.env["PROXY_LISTEN"]
    process = installation.run()
    assert process.wait() == 2
    assert "must differ" in process.output()


def make_home(home: Path) -> None:
    """Make a folder in which everything is installed, as far as run.sh can tell."""
    (home / ".venv" / "bin").mkdir(parents=True)
    (home / "requirements").mkdir()
    for name in ("run.sh", "pyproject.toml", "requirements/run.txt"):
        shutil.copy(ROOT / name, home / name)
    (home / ".venv" / "bin" / "python").symlink_to(sys.executable)
    version = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    declared = "".join((home / name).read_text() for name in ("pyproject.toml", "requirements/run.txt"))
    mark = f"{home}\n{version}\n{declared}"
    (home / ".venv" / "installed-for-run").write_text(mark)
    (home / ".venv" / "bin" / "llm-proxy").symlink_to(tool("llm-proxy"))


def test_run_sh_works_from_any_folder_and_through_a_link(tmp_path: Path) -> None:
    home, caller, link = tmp_path / "its home", tmp_path / "my folder", tmp_path / "a link"
    make_home(home)
    caller.mkdir()
    link.symlink_to(home / "run.sh")
    (home / ".env").write_text("DATA_DIR=its data\n")

    def run(*arguments: str) -> tuple[int, str]:
        process = Process([str(link), *arguments], env=clean_environment(), log=tmp_path / "log", cwd=caller)
        return process.wait(), process.output()

    before = tree(home)
    status, output = run("usage")
    assert (status, f"There is no store at sqlite:///{home}/its data/llm-proxy.db" in output) == (1, True)
    assert tree(home) == before
    with opened(make_settings(home, data_dir=home / "its data")):
        pass
    status, output = run("backup", "my.db")
    assert (status, f"Backed up into {caller}/my.db: " in output) == (0, True)
    assert [path.name for path in caller.iterdir()] == ["my.db"]


def test_tokens_are_managed_by_name_through_run_sh(tmp_path: Path) -> None:
    make_home(tmp_path)
    with opened(make_settings(tmp_path)):
        pass

    def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        command, env = [str(tmp_path / "run.sh"), *arguments], clean_environment()
        return subprocess.run(command, input=given, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)

    made = run("project", "create", "Search", "--json", given=f"{API_KEY}\n")
    assert (made.returncode, made.stderr, json.loads(made.stdout)["name"]) == (0, "", "Search")
    assert API_KEY not in made.stdout
    assert run("token", "create", "Nightly index", "--project", "Search", "--limit", "60/minute").returncode == 0
    assert completed_in_bash(tmp_path, "./run.sh", "token", "show", "N") == r"Nightly\ index"


def completed_in_bash(home: Path, *words: str) -> str:
    """Return the words that bash offers for the last word of a command, by the script that the page says."""
    script = (
        'eval "$(_LLM_PROXY_COMPLETE=bash_source llm-proxy)"; complete -o nosort -F _llm_proxy_completion ./run.sh\n'
        'COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _llm_proxy_completion "$1"; echo "${COMPREPLY[*]}"'
    )
    env = clean_environment()
    env["PATH"] = f"{home / '.venv' / 'bin'}:{env['PATH']}"
    command = ["bash", "-c", script, "bash", *words]
    done = subprocess.run(command, env=env, cwd=home, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.rstrip()


def agrees(shown: Any, answer: Any) -> bool:
    """Tell whether a shortened answer is a part of a whole one."""
    if isinstance(shown, dict):
        return all(name in answer and agrees(value, answer[name]) for name, value in shown.items())
    if isinstance(shown, list):
        return len(shown) == len(answer) and all(map(agrees, shown, answer))
    return bool(shown == answer)


def test_the_snippets_of_the_demo_work_as_printed(demo: Site) -> None:
    output = demo.process.wait_for_output("/manage/tokens/")
    curl = re.search(r"^curl (?:.|\n)*?'$", output, re.MULTILINE)
    assert curl
    answer = json.loads(shell(f"{curl.group()} --silent --fail"))
    (shown,) = [
        json.loads(block.text) for block in blocks((ROOT / "README.md").read_text()) if block.language == "json"
    ]
    assert agrees(shown, answer)
    snippet = re.search(r"^from openai import (?:.|\n)*flush=True\)$", output, re.MULTILINE)
    assert snippet
    done = subprocess.run([sys.executable, "-c", snippet.group()], capture_output=True, text=True, check=True)
    assert "You said: Hello!" in done.stdout
    usage = next(line for line in output.splitlines() if line.startswith("curl") and "/manage/tokens/" in line)
    assert '"request_count":2' in shell(f"{usage} --silent --fail").replace(" ", "")


@pytest.mark.soak("manage_api/cli", "manage_api/demo")
def test_the_demo_lets_a_stream_end(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    with started(installation, "demo", until="How often") as process:
        token = re.search(r'api_key="([0-9a-f-]+)"', process.wait_for_output("/manage/tokens/"))
        assert token
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "drain"}]}
        headers = {"Authorization": f"Bearer {token.group(1)}", "X-Demo-Words": "25", "X-Demo-Chunk-Delay": "0.02"}
        url = f"http://127.0.0.1:{installation.proxy}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, headers=headers) as response:
            lines = response.iter_lines()
            next(lines)
            os.killpg(process.pid, signal.SIGINT)
            assert list(lines)[-2:] == ["data: [DONE]", ""]
        assert process.wait() == 0


def test_the_demo_needs_no_proxy_where_one_is_set(demo: Site, forward: ForwardProxy) -> None:
    token = re.search(r'api_key="([0-9a-f-]+)"', demo.process.wait_for_output("/manage/tokens/"))
    assert token
    headers = {"Authorization": f"Bearer {token.group(1)}"}
    assert httpx.get(f"http://127.0.0.1:{demo.installation.proxy}/v1/models", headers=headers).status_code == 200
    assert forward.heads == []


def status_page(installation: Installation) -> str:
    """Log in to the pages, and return the one of the status."""
    url = f"http://127.0.0.1:{installation.manage}"
    token = (installation.data / "management_token").read_text()
    with httpx.Client(base_url=url, headers={"Origin": url}, follow_redirects=True) as browser:
        browser.post("/login", data={"token": token}).raise_for_status()
        return browser.get("/status").raise_for_status().text


def test_the_login_in_the_banner_of_web_works_and_is_needed(installation: Installation) -> None:
    with started(installation, "web") as process:
        (login,) = re.findall(r"^  mitmweb +(http://127\.0\.0\.1:\d+/\?token=\w+)$", process.output(), re.MULTILINE)
        assert httpx.get(login, follow_redirects=True).status_code == 200
        assert httpx.get(login.partition("?")[0]).status_code == 403
        status = status_page(installation)
        assert f'href="{login.partition("/?")[0]}"' in status
        assert login.partition("=")[2] not in status
        (proxy, _) = children(process.pid)
        os.kill(proxy, signal.SIGKILL)
        process.wait_for_output(" now.\n")
        (again,) = re.findall(r" is at (http://\S+) now\.$", process.output(), re.MULTILINE)
        assert httpx.get(again, follow_redirects=True).status_code == 200
    output = process.output()
    for address in (login, again):
        assert output.count(address.partition("=")[2]) == 1


@pytest.mark.soak("addon/serving", "manage_api/cli")
def test_the_operators_password_for_mitmweb_works_and_is_not_printed(installation: Installation) -> None:
    folder = installation.data / "mitmproxy"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("web_password: a-password-of-mine\n")
    with started(installation, "web") as process:
        (login,) = re.findall(r"^  mitmweb +(\S+)  \(log in with your web_password\)$", process.output(), re.MULTILINE)
        assert httpx.get(login).status_code == 403
        assert httpx.get(login, params={"token": "a-password-of-mine"}).status_code == 200
    assert "a-password-of-mine" not in process.output()
