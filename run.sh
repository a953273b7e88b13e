#!/usr/bin/env bash
# Sets up .venv where it must, then starts what is asked for.
set -euo pipefail
caller=$PWD
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"

show_help() {
    cat <<'END'
Usage: ./run.sh [COMMAND] [OPTION]...

LLM Proxy: hand out tokens instead of API keys. Without a COMMAND it starts.
The first time, .venv is set up; that needs a network, and takes about a minute.

  start     Start the proxy and the management API.
  proxy     Start the proxy alone, as one of several machines does.
  web       Start both with mitmweb, to watch the traffic; the proxy is one process then.
  demo      Start both before a demo upstream; nothing is kept.
  addon-path Print the path of the script for mitmproxy's own tools, as `mitmdump -s` takes it.
  project   List, show, create, change and delete projects; each owns an upstream key.
  token     List, show, create, change, revoke and rotate tokens, which applications hold.
  price     List, set and delete own prices, which replace the built-in ones.

  usage     Show what was used and what it cost.
  request   List requests, or show a single one.
  requests  List the newest requests, admitted and refused.
  reconcile Compare a provider's usage export with the ledger.
  backup    Copy the store into a new FILE, while it is in use.
  admin     List and change the administrators of the management API.
  audit     List the newest changes, through the API and the command line.
  migrate   Bring the store's schema up to date, as each start does.
  copy      Copy the store into another, empty database.
  rotate    Re-encrypt the store with the first key of ENCRYPTION_KEY.

  setup     Install what LLM Proxy and its tests need, and start nothing.
  test      Run the tests. Options are those of pytest.
  soak      Run the slow tests: thousands of trials under load. Options are those of pytest,
            and --changed[=REF]: only those that a change touches.
  lock      Pin all packages in requirements/, with hashes. Options are those of uv pip compile, such as --upgrade.
  release   Build a wheel, check it where nothing else is, and write what is in it; all into dist/.
  newest    Run the tests of what builds on mitmproxy against its newest version. Options are those of pytest.
  screenshots  Make the pictures of the pages in docs/pages; that needs Chromium.
  bench     Measure what a request costs, beside plain mitmdump and nginx.

./run.sh COMMAND --help lists the options of a command once .venv is set up. Help installs nothing.
END
}

# The path of a Python that is new enough, and able to make a .venv if there is one. pyenv hides all but the chosen one.
find_python() {
    for modules in ensurepip,venv sys; do
        for candidate in python3 python "PYENV_VERSION=3.14 python3.14" "PYENV_VERSION=3.13 python3.13" \
            "PYENV_VERSION=3.12 python3.12"; do
            # shellcheck disable=SC2086 # a command, with a variable or without
            env $candidate -c "import sys, $modules; sys.version_info < (3, 12) and sys.exit(1); print(sys.executable)" \
                2>/dev/null && return
        done
    done
    echo "LLM Proxy needs Python 3.12 or newer; none was found on the PATH." >&2
    exit 1
}

# installed NAME: whether that is so, for this folder, this Python and this lock; as set_up.py wrote it.
installed() {
    [ ! -e .venv/unfinished ] && version=$(.venv/bin/python -V 2>/dev/null) &&
        { pwd -P; echo "${version%.*}"; cat pyproject.toml "requirements/$1.txt"; } | cmp -s - ".venv/installed-for-$1"
}

# install NAME [ARGUMENT]...: what NAME needs, if it is not there. To be asked for help is no reason to.
install() {
    installed "$1" && return
    case "${2:-}" in -h|--help) show_help; exit ;; esac
    python=$(find_python)
    "$python" -I manage_api/cli/set_up.py "$1"
}

# run_pytest [OPTION]...: pytest; its workers find the bytecode of all tests, rather than compile them each.
run_pytest() {
    unset PYTHONDONTWRITEBYTECODE
    exec .venv/bin/python -m pytest "$@"
}

case "${1:-start}" in
    -h|--help) show_help ;;
    setup)
        case "${*:2}" in
            "") install test ;;
            -h|--help) show_help ;;
            *) echo "./run.sh setup takes no arguments." >&2; exit 2 ;;
        esac ;;
    test)  install test "${@:2}"; run_pytest "${@:2}" ;;
    soak)  install soak "${@:2}"; run_pytest --soak -n 0 --timeout 3600 "${@:2}" ;;
    newest) install test "${@:2}"; exec .venv/bin/python tests/newest_mitmproxy.py "${@:2}" ;;
    lock)    install release "${@:2}"; exec .venv/bin/python tests/lock.py "${@:2}" ;;
    release) install release "${@:2}"; exec .venv/bin/python tests/release.py "${@:2}" ;;
    screenshots) install soak "${@:2}"; PYTHONPATH=tests exec .venv/bin/python tests/screenshots.py ;;
    bench) install test "${@:2}"; PYTHONPATH=tests exec .venv/bin/python -m benchmarks.bench "${@:2}" ;;
    *)     install run "${@:2}"; exec .venv/bin/llm-proxy --caller "$caller" "${@:-start}" ;;
esac
