import asyncio
from pathlib import Path
from typing import Any

from mitmproxy.addons.script import ScriptLoader
from mitmproxy.test import taddons

from addon.seams import reload

SCRIPT = """
class Ours:
    pass

addons = [Ours()]
"""


def test_the_script_of_the_addon_is_watched_no_more_and_others_are(tmp_path: Path) -> None:
    ours, other = tmp_path / "ours.py", tmp_path / "other.py"
    ours.write_text(SCRIPT)
    other.write_text(SCRIPT.replace("Ours", "Other"))

    async def main() -> None:
        loader = ScriptLoader()
        with taddons.context(loader) as context:
            context.options.update(scripts=[str(ours), str(other)])
            loader.running()
            scripts: dict[str, Any] = {Path(script.fullpath).name: script for script in loader.addons}
            while not all(script.ns for script in scripts.values()):
                await asyncio.sleep(0)
            addon = scripts["ours.py"].ns.addons[0]
            reload.stop_watching(context.master, addon)
            await asyncio.wait({scripts["ours.py"].reloadtask}, timeout=5)
            assert scripts["ours.py"].reloadtask.cancelled()
            assert not scripts["other.py"].reloadtask.done()
            ours.unlink()
            assert scripts["ours.py"].ns.addons == [addon]
            for script in loader.addons:
                script.done()
            await asyncio.wait({scripts["other.py"].reloadtask}, timeout=5)

    asyncio.run(main())


def test_an_addon_that_came_without_a_script_is_no_fault() -> None:
    with taddons.context() as context:
        reload.stop_watching(context.master, object())
    with taddons.context(ScriptLoader()) as context:
        reload.stop_watching(context.master, object())
