"""The command `innerloop`, from its first moment: Ctrl-C ends it quietly while it loads, too.

Beside signals this module imports nothing, so that next to nothing comes before it.
"""

import signal
import sys


def main() -> int:
    """Run the command that the program's arguments name; returns the exit status.

    See `innerloop.cli.main`.
    """
    presses: list[int] = []

    def press(number: int, frame: object) -> None:
        presses.append(number)
        raise KeyboardInterrupt

    # Where Ctrl-C is ignored, as in the background of a shell, it stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, press)
    try:
        # Tens of milliseconds; later the libraries that a command needs, which take seconds.
        from innerloop.cli import main as run

        return run(interrupted=lambda: bool(presses))
    except (KeyboardInterrupt, Exception):
        # What is broken off in the middle of an import may fail with any error: NumPy then lacks
        # some of its names.
        if not presses:
            raise
        print("interrupted", file=sys.stderr, flush=True)
        return 128 + signal.SIGINT
    finally:
        if signal.getsignal(signal.SIGINT) is press:
            # All is done: nothing is worth a traceback while Python ends.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
