"""`innerloop demo`."""

from __future__ import annotations

import dataclasses
import importlib.util
import socket
import warnings
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from innerloop.cli.output import say, show
from innerloop.errors import UserError

if TYPE_CHECKING:
    from starlette.applications import Starlette

DESCRIPTION = """Open a page on which one draws symbols and watches a network learn them.

With a network for colour pictures, it is a page for photographs: a few of each thing teach it to
tell others, and to say "none of these".

The page is served by this command, to this computer alone unless --host says otherwise, until
Ctrl-C ends it.  Nothing that is drawn is kept or sent anywhere else.  With --site it is written as
files instead, which need no server and no installation: the browser computes.

examples:
  innerloop demo
  innerloop demo --port 9000 --no-browser
  innerloop demo runs/first runs/second
  innerloop demo --data omniglot
  innerloop demo --site page
  innerloop demo timm:efficientnet_lite0.ra_in1k
  innerloop demo timm:efficientnet_lite0.ra_in1k --support photos/"""

FIRST_PORT, TRIED = 8765, 20
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What the page offers and where."""

    runs: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[MODEL ...]")
    ] = ()
    """Run folders or weights files to choose from, beside those that come with the package; or one
    network for photographs: timm:NAME, torchvision:NAME, transformers:NAME, FILE.py:NAME or
    MODULE:NAME, or a run on colour pictures or on such a network."""
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
    support: Path | None = None
    """For photographs: a folder with one folder of pictures for each thing, to begin with."""
    weights: Path | None = None
    """For photographs: file of weights for the network, .safetensors, or .pt without code."""
    preprocess: str | None = None
    """For photographs: what the network needs done to pictures, MODULE:NAME or FILE.py:NAME."""
    image_size: int | None = None
    """For photographs: size of the pictures that the network sees, where not its own, or 224."""


FOR_PHOTOS = ("support", "weights", "preprocess", "image_size")


def main(argv: list[str]) -> int:
    """Parse `argv`, serve until interrupted; returns the exit status."""
    arguments = tyro.cli(Arguments, args=argv, prog="innerloop demo", description=DESCRIPTION)
    missing = [m for m in ("starlette", "uvicorn", "pydantic") if not importlib.util.find_spec(m)]
    if missing:
        raise UserError(
            f"the page needs {', '.join(missing)}: install them with pip install 'innerloop[demo]'"
        )
    photos = _for_photos(arguments)
    if arguments.site is not None:
        if photos:
            raise UserError("photographs need the server: leave out --site")
        if arguments.port is not None or arguments.host != Arguments.host:
            raise UserError("with --site nothing is served: leave out --port and --host")
        return _write(arguments, arguments.site)
    if arguments.port is not None and not 0 <= arguments.port < 65536:
        raise UserError(f"--port must be from 0 (any free one) to 65535, not {arguments.port}")
    # The page itself shows the support loss after each step.
    warnings.filterwarnings("ignore", "the loss on the support images rises")
    # It would name pictures by numbers that the page does not show.
    warnings.filterwarnings("ignore", ".* that another class has")
    with _listen(arguments.host, arguments.port) as listener:
        _serve(arguments, listener, photos)
    return 0


def _for_photos(arguments: Arguments) -> bool:
    """Whether the page is that for photographs.

    Raises:
        UserError: what was asked for does not go together.
    """
    # PyTorch takes seconds to import, which --help should not wait for.
    from innerloop.demo.photos import takes_photos

    runs = arguments.runs
    found = [name for name in runs if takes_photos(name)]
    if found and len(runs) > 1:
        raise UserError(f"{found[0]} is for photographs: give it alone, one network for one page")
    wrong = ("data", "omniglot_source") if found else FOR_PHOTOS
    for name in wrong:
        if getattr(arguments, name) != getattr(Arguments, name):
            option = f"--{name.replace('_', '-')}"
            page = "drawings" if found else "photographs, which takes a network such as timm:NAME"
            raise UserError(f"{option} is for the page for {page}: leave it out")
    return bool(found)


def _write(arguments: Arguments, folder: Path) -> int:
    from innerloop.demo.answers import episode_source, offered
    from innerloop.demo.site import write_site

    entries = offered(list(arguments.runs))
    source = episode_source(arguments.data, arguments.omniglot_source, entries)
    files = write_site(folder, entries, *source)
    size = sum(file.stat().st_size for file in files)
    index = next(file for file in files if file.name == "index.html")
    show(f"{index}: {len(files)} files, {size / 1e6:.2f} MB")
    return 0


def _serve(arguments: Arguments, listener: socket.socket, photos: bool) -> None:
    from innerloop.demo.server import serve

    hosts = ["localhost", "127.0.0.1", "[::1]"] if arguments.host in LOOPBACK else ["*"]
    app = (_photos if photos else _drawings)(arguments, hosts)
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, host)
    address = f"http://[{shown}]:{port}/" if ":" in shown else f"http://{shown}:{port}/"

    def ready() -> None:
        say(f"the page is at {address}   (Ctrl-C ends it)")
        if arguments.browser:
            webbrowser.open(address)

    serve(app, listener, ready)


def _drawings(arguments: Arguments, hosts: list[str]) -> Starlette:
    from innerloop.demo.answers import episode_source, offered
    from innerloop.demo.server import create_app

    entries = offered(list(arguments.runs))
    source = episode_source(arguments.data, arguments.omniglot_source, entries)
    return create_app(entries, *source, hosts)


def _photos(arguments: Arguments, hosts: list[str]) -> Starlette:
    from innerloop.cli.pictures import support_files
    from innerloop.demo.photos import classifiers, create_photos_app

    name = arguments.runs[0]
    support = {} if arguments.support is None else support_files(arguments.support)
    make = classifiers(
        name,
        weights=arguments.weights,
        preprocess=arguments.preprocess,
        image_size=arguments.image_size,
    )
    return create_photos_app(make, name, support, hosts)


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
