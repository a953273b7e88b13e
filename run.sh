#!/usr/bin/env bash
# Sets up on first use, then starts what is asked for. `./run.sh --help` lists the commands.
#   ./run.sh          the proxy and the management API
#   ./run.sh test     the tests; ./run.sh setup installs what they need, and nothing else
#   ./run.sh soak     the slow ones: thousands of trials under load
#   ./run.sh bench    what a request costs, beside plain mitmdump and nginx
set -euo pipefail
caller=$PWD
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"

find_python() {
    for candidate in python3 python3.14 python3.13 python3.12 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "LLM Proxy needs Python 3.12 or newer; none was found on the PATH." >&2
    exit 1
}

# installed NAME: whether that is so, by the pyproject.toml of today.
installed() {
    cmp -s pyproject.toml ".venv/installed-$1.toml"
}

# install NAME REQUIREMENT: again whenever pyproject.toml has changed since.
install() {
    installed "$1" && return
    if ! .venv/bin/python -c '' 2>/dev/null; then
        python=$(find_python)
        "$python" -m venv --clear .venv
    fi
    echo "Installing what LLM Proxy needs into .venv ..." >&2
    .venv/bin/python -m pip install -qq --disable-pip-version-check --editable "$2"
    cp pyproject.toml ".venv/installed-$1.toml"
}

case "${1:-start}" in
    setup) install test '.[test]' ;;
    test)  install test '.[test]'; exec .venv/bin/python -m pytest "${@:2}" ;;
    soak)  install soak '.[soak]'; exec .venv/bin/python -m pytest -n 0 --timeout 3600 -o testpaths=tests/soak "${@:2}" ;;
    bench) install test '.[test]'; PYTHONPATH=tests exec .venv/bin/python -m benchmarks.bench "${@:2}" ;;
    *)     installed test || install run '.[estimates]'; exec .venv/bin/llm-proxy --caller "$caller" "${@:-start}" ;;
esac
