"""`innerloop demo`."""

from __future__ import annotations

import dataclasses
import importlib.util
import socket
import sys
import warnings
import webbrowser
from pathlib import Path

import tyro

from innerloop.errors import UserError

DESCRIPTION = """Open a page on which one draws symbols and watches a network learn them.

The page is served by this command, to this computer alone unless --host says otherwise, until
Ctrl-C ends it.  Nothing that is drawn is kept or sent anywhere else.  With --site it is written as
files instead, which need no server and no installation: the browser computes.

examples:
  innerloop demo
  innerloop demo --port 9000 --no-browser
  innerloop demo runs/first runs/second
  innerloop demo --data omniglot
  innerloop demo --site page"""

FIRST_PORT, TRIED = 8765, 20
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What the page offers and where."""

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Run folders or weights files to choose from, beside those that come with the package."""
    port: int | None = None
    """Port; by default the first free one from 8765."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other computers of the network in."""
    browser: bool = True
    """Open a browser."""
    data: str = "glyphs"
    """Where "surprise me" takes its episodes from: glyphs, omniglot or a folder of pictures."""
    omniglot_source: str | None = None
    """Folder with the Omniglot archives."""
    site: Path | None = None
    """Write the page into this folder instead, for any web host, or to be opened as a file."""


def main(argv: list[str]) -> int:
    """Parse `argv`, serve until interrupted; returns the exit status."""
    arguments = tyro.cli(Arguments, args=argv, prog="innerloop demo", description=DESCRIPTION)
    missing = [m for m in ("starlette", "uvicorn", "pydantic") if not importlib.util.find_spec(m)]
    if missing:
        raise UserError(
            f"the page needs {', '.join(missing)}: install them with pip install 'innerloop[demo]'"
        )
    if arguments.site is not None:
        if arguments.port is not None or arguments.host != Arguments.host:
            raise UserError("with --site nothing is served: leave out --port and --host")
        return _write(arguments, arguments.site)
    if arguments.port is not None and not 0 <= arguments.port < 65536:
        raise UserError(f"--port must be from 0 (any free one) to 65535, not {arguments.port}")
    # The page itself shows the support loss after each step.
    warnings.filterwarnings("ignore", "the loss on the support images rises")
    with _listen(arguments.host, arguments.port) as listener:
        _serve(arguments, listener)
    return 0


def _write(arguments: Arguments, folder: Path) -> int:
    from innerloop.demo.answers import episode_source, offered
    from innerloop.demo.site import write_site

    entries = offered(list(arguments.runs))
    source = episode_source(arguments.data, arguments.omniglot_source, entries)
    files = write_site(folder, entries, *source)
    size = sum(file.stat().st_size for file in files)
    index = next(file for file in files if file.name == "index.html")
    print(f"{index}: {len(files)} files, {size / 1e6:.2f} MB")
    return 0


def _serve(arguments: Arguments, listener: socket.socket) -> None:
    from innerloop.demo.answers import episode_source, offered
    from innerloop.demo.server import create_app, serve

    entries = offered(list(arguments.runs))
    source = episode_source(arguments.data, arguments.omniglot_source, entries)
    hosts = ["localhost", "127.0.0.1", "[::1]"] if arguments.host in LOOPBACK else ["*"]
    app = create_app(entries, *source, hosts)
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, host)
    address = f"http://[{shown}]:{port}/" if ":" in shown else f"http://{shown}:{port}/"

    def ready() -> None:
        print(f"the page is at {address}   (Ctrl-C ends it)", file=sys.stderr, flush=True)
        if arguments.browser:
            webbrowser.open(address)

    serve(app, listener, ready)


def _listen(host: str, port: int | None) -> socket.socket:
    """A socket bound to `port`, or to the first free one.

    Raises:
        UserError: the address cannot be listened on.
    """
    ports = range(FIRST_PORT, FIRST_PORT + TRIED) if port is None else [port]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for last in ports:
        # Only where the protocol is named does asyncio send answers without a delay of 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, last))
        except (OSError, OverflowError) as error:
            listener.close()
            reason = error
        else:
            return listener
    where = f"port {port}" if port is not None else f"any port from {ports[0]} to {ports[-1]}"
    raise UserError(
        f"cannot listen on {where} of {host} ({reason}): choose another with --port or --host"
    )
