"""The entry for mitmproxy's own tools: `mitmdump -s addon/proxy.py`, `mitmweb -s addon/proxy.py`.

mitmproxy loads a file, never a package, and leaves this file's folder on its path. So the project's root is added here,
and everything is imported from there.

There is no `addons` here: mitmproxy would remove those addons when this file is broken, deleted, or taken out of its
options, and go on without them. A start that fails ends the process at once: mitmproxy's port is open by then, and
would let requests through until mitmproxy itself had closed everything.
"""

import os
import sys
import traceback
from pathlib import Path

from mitmproxy import ctx

sys.path.append(str(Path(__file__).resolve().parent.parent))

if ctx.master.addons.get("gateway") is None:  # mitmproxy runs this file again when it is touched
    try:
        from addon.serving.startup import add_gateway
        from store.runtime.lifecycle import BAD_SETTINGS, or_exit
        from store.runtime.settings import Settings

        add_gateway(ctx.master, or_exit(Settings.load, BAD_SETTINGS))
    except SystemExit as end:
        os._exit(int(end.code or 1))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
