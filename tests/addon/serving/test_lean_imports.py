import subprocess
import sys

LOADED = "import sys; from mitmproxy.addons import proxyserver; print(*[name for name in sys.modules], sep='\\n')"


def modules(before: str = "") -> set[str]:
    done = subprocess.run([sys.executable, "-c", f"{before}; {LOADED}"], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_only_the_requested_addon_is_imported() -> None:
    everything, lean = modules("pass"), modules("from addon.serving import lean_imports; lean_imports.install()")
    assert {"mitmproxy.addons.proxyserver", "mitmproxy.addons.onboarding", "flask"} <= everything
    assert "mitmproxy.addons.proxyserver" in lean
    assert not {"mitmproxy.addons.onboarding", "flask"} & lean
    assert len(lean) < len(everything) - 200
