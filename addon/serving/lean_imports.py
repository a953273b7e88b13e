"""Imports mitmproxy's addons one by one, as they are needed.

Their package imports all of them, and with them flask, LDAP and others: 11 MB, and an eighth of a second at each start.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_NAME = "mitmproxy.addons"


def install() -> None:
    """Put a package in the place of mitmproxy's that imports nothing; before anything of mitmproxy is imported."""
    spec = importlib.util.find_spec("mitmproxy")
    if spec is None or spec.origin is None:
        raise ImportError("mitmproxy is not installed")
    package = ModuleType(_NAME)
    package.__path__ = [str(Path(spec.origin).with_name("addons"))]
    sys.modules[_NAME] = package
