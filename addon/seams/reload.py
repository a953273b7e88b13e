"""Stops the watcher of the addon's script.

mitmproxy reloads a script that changes, and goes on **without** one that was deleted or no longer loads: a proxy that
refuses nothing.
"""

from mitmproxy.addons.script import Script, ScriptLoader
from mitmproxy.master import Master


def stop_watching(master: Master, addon: object) -> None:
    """Keep the script that brought `addon` as it is, whatever happens to its file."""
    loader = master.addons.get("scriptloader")
    scripts: list[Script] = loader.addons if isinstance(loader, ScriptLoader) else []
    for script in scripts:
        if addon in getattr(script.ns, "addons", []) and script.reloadtask is not None:
            script.reloadtask.cancel()
