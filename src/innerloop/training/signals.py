"""Stop signals, which end a run between two iterations."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from innerloop.training.distributed import LostProcess

# Seconds after which a request that is not yet met is answered.
PATIENCE = 1.0


@contextlib.contextmanager
def stop_requests(say: Callable[[], None] | None = None) -> Iterator[threading.Event]:
    """Within this context Ctrl-C, SIGTERM and SIGHUP set the event instead of breaking off.

    A second Ctrl-C breaks off at once.

    Args:
        say: called in another thread if the context does not end soon after the first request.
    """
    stop, asked, ended = (threading.Event() for _ in range(3))
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: object) -> None:
        # When one process has stopped, torchrun sends the others SIGTERM: no second Ctrl-C.
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()
        asked.set()

    def answer() -> None:
        asked.wait()
        if not ended.wait(PATIENCE) and say is not None:
            say()

    numbers = [signal.SIGINT, signal.SIGTERM]
    # A terminal that goes away; nohup has it ignored, which is to stay so.
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) != signal.SIG_IGN:
        numbers.append(hang_up)
    before = {number: signal.signal(number, request) for number in numbers}
    # Before it is needed: in a handler no thread can be begun safely.
    threading.Thread(target=answer, daemon=True).start()
    try:
        yield stop
    except LostProcess:
        # torchrun is about to end this process too, which has yet to say why.
        before.pop(signal.SIGTERM)
        raise
    finally:
        ended.set()
        asked.set()
        for number, handler in before.items():
            signal.signal(number, handler)
