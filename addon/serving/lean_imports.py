"""Imports mitmproxy's addons one by one, as they are needed.

REPLACES: the package `mitmproxy.addons`, whose `__init__` imports all addons, and with them flask, LDAP and others.
WHY: 0.14 s of CPU at each start of a worker, and 12 MiB of its memory.
REMOVE WHEN: importing `mitmproxy.addons.proxyserver` no longer imports all addons. No upstream issue known.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_NAME = "mitmproxy.addons"


def install() -> None:
    """Replace the package by an empty one with the same path. Call it before anything of mitmproxy is imported."""
    spec = importlib.util.find_spec("mitmproxy")
    if spec is None or spec.origin is None:
        raise ImportError("mitmproxy is not installed")
    package = ModuleType(_NAME)
    package.__path__ = [str(Path(spec.origin).with_name("addons"))]
    sys.modules[_NAME] = package
