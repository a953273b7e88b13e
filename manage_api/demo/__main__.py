"""Run the demo upstream alone: `python -m manage_api.demo --port 9000 --api-key sk-demo`."""

import asyncio
import contextlib

import click

from manage_api.demo.app import DEFAULT_CHUNK_DELAY, LOOPBACK, serve
from store.runtime.lifecycle import STOP_SIGNALS, begin, ignore_stop_signals


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="Port to listen on; 0 takes a free one.")
@click.option("--api-key", required=True, help="The key that requests must carry. It protects nothing.")
@click.option(
    "--chunk-delay",
    type=click.FloatRange(min=0),
    default=DEFAULT_CHUNK_DELAY,
    show_default=True,
    help="Seconds between two words of a streamed answer.",
)
def main(port: int, api_key: str, chunk_delay: float) -> None:
    """Serve an OpenAI-compatible demo API on 127.0.0.1 until SIGTERM or SIGINT."""
    begin()
    asyncio.run(_serve_until_signalled(port, api_key, chunk_delay))


async def _serve_until_signalled(port: int, api_key: str, chunk_delay: float) -> None:
    serving = asyncio.ensure_future(serve(LOOPBACK, port, api_key, chunk_delay))
    loop = asyncio.get_running_loop()
    for signum in STOP_SIGNALS:
        loop.add_signal_handler(signum, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    ignore_stop_signals(loop)


if __name__ == "__main__":
    main(prog_name="python -m manage_api.demo")
