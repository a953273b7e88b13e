"""Makes the pictures of the pages in docs/pages, on a store after a month in use: `./run.sh screenshots`."""

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path

import httpx
from PIL import Image
from support.clients.chromium import Chromium, Look
from support.gateway.gateway import Gateway
from support.stores import desk
from support.stores.desk import Desk
from support.upstreams.upstreams import KEY, DemoUpstream

FOLDER = Path(__file__).parents[1] / "docs" / "pages"
DESK = Look("light", 1280)
NIGHT = Look("dark", 1280)
TELEPHONE = Look("light", 360)
HEIGHT = 1100
"""Pixels of a page that are shown at most: lists are long."""

COLOURS = 128
"""Those of a picture: text is as good with as few, and the file has a third of the size."""


def main() -> None:
    """Make all pictures."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="llm-proxy-") as name, DemoUpstream.start(Path(name)) as upstream:
        folder = Path(name) / "gateway"
        folder.mkdir()
        with Gateway.start(folder, upstream.url, LOG_LEVEL="info") as gateway, Chromium.start() as browser:
            with gateway.store() as store:
                filled = desk.fill(store, KEY)
            ask(gateway, filled)
            browser.show(DESK)
            browser.open(f"{gateway.manage_url}/login")
            save(browser, "login")
            browser.log_in(gateway.manage_url, filled.admin_token)
            for file, (address, look) in pictures(filled).items():
                browser.show(look)
                browser.open(address)
                save(browser, file)
            browser.show(DESK)
            for row, file in ((1, "request-refused"), (2, "request")):
                browser.open("/requests")
                browser.open(browser.find(f"tbody tr:nth-child({row}) a").get_attribute("href") or "")
                save(browser, file)
            browser.open(f"/tokens/new?preset=application&project_id={filled.projects['Mobile app']}")
            save(browser, "new-token")
            browser.fill(name="iOS, test flights")
            browser.press("Create")
            save(browser, "token-value")


def ask(gateway: Gateway, filled: Desk) -> None:
    """Send some requests through the proxy, so that windows have been used, and one is refused."""
    made = gateway.make_token(filled.projects["Search"], name="load test", rate_limits=[{"requests": 8, "per": "hour"}])
    headers = {"Authorization": f"Bearer {made['token']}"}
    chat = {"model": "gpt-4.1-nano", "messages": [{"role": "user", "content": "Rewrite: red shoes in 42"}]}
    for _ in range(9):
        httpx.post(f"{gateway.url}/v1/chat/completions", json=chat, headers=headers)


def pictures(filled: Desk) -> Mapping[str, tuple[str, Look]]:
    """Return the address and the look of each picture that an address alone is enough for."""
    token = f"/tokens/{filled.tokens['Android']}"
    return {
        "overview": ("/?days=30", DESK),
        "overview-dark": ("/?days=30", NIGHT),
        "overview-narrow": ("/?days=30", TELEPHONE),
        "projects": ("/projects", DESK),
        "project": (f"/projects/{filled.projects['Support assistant']}", DESK),
        "tokens": ("/tokens", DESK),
        "token": (token, DESK),
        "requests": ("/requests", DESK),
        "reports": ("/reports?by=day&by=project&from=7d", DESK),
        "audit": ("/audit", DESK),
        "prices": ("/prices", DESK),
        "administrators": ("/admins", DESK),
        "status": ("/status", DESK),
        "rotate": (f"{token}/rotate", DESK),
        "revoke": (f"/tokens/revoke?id={filled.tokens['Android']}&id={filled.tokens['iOS']}", DESK),
    }


def save(browser: Chromium, name: str) -> None:
    """Write a picture of the page with few colours."""
    picture = Image.open(io.BytesIO(browser.picture(HEIGHT))).convert("RGB")
    file = FOLDER / f"{name}.png"
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file.relative_to(FOLDER.parents[1])}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
