"""python -m host serve [--port 8188] | python -m host run FILE [--input NODE.NAME=VALUE ...]"""

import argparse
import asyncio
import contextlib
import errno
import json
import logging
import signal
import sys
from pathlib import Path

from .pack import FOLDER


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m host", description="Embedded host of the LLIA nodes")
    parser.add_argument(
        "--base", type=Path, default=FOLDER / "output" / "studio", help="holds input, output, temp, user"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="open the canvas at an address of this machine")
    serve.add_argument("--port", type=int, default=8188, help="0: any free port")
    serve.add_argument(
        "--listen", default="127.0.0.1", help="address to listen on; any but a loopback one is open to all"
    )
    run = commands.add_parser("run", help="run a workflow file, without a browser")
    run.add_argument("file", type=Path, help="an API prompt or a saved workflow")
    run.add_argument("--input", action="append", default=[], metavar="NODE.NAME=VALUE", help="sets an input of a node")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    from .studio import run_file, serve_canvas

    try:
        if arguments.command == "serve":
            asyncio.run(serve_canvas(arguments.base, arguments.listen, arguments.port, _print_address, _stop_event))
        else:
            print(json.dumps(run_file(arguments.base, arguments.file, arguments.input), indent=2))
    except KeyboardInterrupt:
        return 130
    except (ValueError, RuntimeError, OSError) as error:
        print(f"{error}{_advice(error)}", file=sys.stderr)
        return 1
    return 0


def _advice(error: Exception) -> str:
    taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
    return "\nAnother program uses this port; choose one with --port, or --port 0 for any free one." if taken else ""


def _print_address(address: str) -> None:
    print(f"The canvas is at {address}\nEnd with Ctrl-C.", flush=True)


def _stop_event() -> asyncio.Event:
    """Set when the process is asked to end, so that a running job and its files are closed."""
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C comes as KeyboardInterrupt
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
    return stop


if __name__ == "__main__":
    sys.exit(main())
