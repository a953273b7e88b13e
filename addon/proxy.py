"""The entry for mitmproxy's own tools: `mitmdump -s addon/proxy.py`, `mitmweb -s addon/proxy.py`.

mitmproxy takes a file, never a package, and leaves this file's folder on its path: so the project's root is added here,
and everything is imported from there.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

from addon.startup import make_gateway
from store.lifecycle import BAD_SETTINGS, or_exit
from store.settings import Settings

addons = [make_gateway(or_exit(Settings.load, BAD_SETTINGS))]
