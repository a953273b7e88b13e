# docker build -t llm-proxy .
# docker run --rm -p 127.0.0.1:8080:8080 -p 127.0.0.1:8081:8081 llm-proxy demo
# docs/installing.md has the rest.

# A Debian with Python 3.12 or newer, and its pip and venv. The image takes over no more of it than runs here.
ARG BASE=python:3.13-slim-trixie
FROM ${BASE} AS build

# strip takes 25 MB out of the packages.
RUN command -v strip >/dev/null || { apt-get update && apt-get install --yes --no-install-recommends binutils; }
WORKDIR /source
RUN python3 -m venv /build && python3 -m venv --without-pip /app
COPY requirements/build.txt requirements/run.txt requirements/
ENV PIP_CACHE_DIR=/cache
RUN --mount=type=cache,target=/cache \
    /build/bin/pip install --require-hashes --requirement requirements/build.txt && \
    /build/bin/pip --python /app/bin/python install --no-compile --require-hashes --requirement requirements/run.txt
COPY . .
RUN /build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheel . && \
    /build/bin/pip --python /app/bin/python install --no-compile --no-index --no-deps /wheel/*.whl

# What runs: the packages, Python, and the libraries that these load. Nothing is written there at a run, so the bytecode
# is there too, in the form that PYTHONOPTIMIZE asks for.
RUN set -eu; mkdir -p /image/etc /image/tmp /image/data; chmod 1777 /image/tmp /image/data; \
    python=$(command -v python3); library=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))'); \
    cp -a --parents /app "$python" "$(readlink -f "$python")" "$library" /image; \
    cd "/image$library"; \
    rm -rf test idlelib ensurepip pydoc_data tkinter turtledemo turtle.py config-* site-packages dist-packages; \
    cd /image/app; \
    rm -rf bin/mitmproxy-linux-redirector lib/*/site-packages/zstandard/_cffi.* lib/*/site-packages/tornado/test; \
    find /image -xtype l ! -path '*/bin/*' -delete; \
    find /image -name __pycache__ -prune -exec rm -rf {} +; \
    find /image -name '*.so*' -type f -exec strip --strip-unneeded {} +; \
    find /image -name '*.so*' -type f -exec ldd "$python" {} + | \
        grep -o '[[:space:]]/[^ :]*' | grep -v /app/ | sort -u | xargs cp -L --parents -t /image; \
    cp -a --parents /etc/ld.so.conf /etc/ld.so.conf.d /image; ldconfig -r /image; \
    echo 'hosts: files dns' > /image/etc/nsswitch.conf; \
    echo 'llm-proxy:x:65532:65532::/data:/sbin/nologin' > /image/etc/passwd; \
    python3 -O -m compileall -q --invalidation-mode unchecked-hash -s /image "/image$library" /image/app

FROM scratch
COPY --from=build /image /
ENV PATH=/app/bin HOME=/data TMPDIR=/data LANG=C.UTF-8 PYTHONOPTIMIZE=1 PYTHONDONTWRITEBYTECODE=1 \
    DATA_DIR=/data PROXY_LISTEN=0.0.0.0:8080 MANAGE_LISTEN=0.0.0.0:8081
# Any other user may take its place: a folder or volume that is mounted at /data must be that user's then.
USER 65532:65532
VOLUME /data
WORKDIR /data
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-Pc", "import http.client as http; asked = http.HTTPConnection('127.0.0.1', 8080); \
asked.request('GET', '/health'); exit(asked.getresponse().status != 200)"]
ENTRYPOINT ["/app/bin/llm-proxy"]
CMD ["start"]
