"""Work in a process of its own: its memory is counted alone, all of it is given back at the end,
and what kills it kills nothing else."""

import multiprocessing
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, NoReturn, TypeVar

from vlmcli.errors import DeviceError, VlmError, as_bug

T = TypeVar("T")

_TIDY_S = 3


def iterate(name: str, work: Callable[..., Iterator[T]], *arguments: object) -> Iterator[T]:
    """Yield what `work(*arguments)` yields over there, and raise the VlmError that it raises.

    All of it is pickled, and `work` is found by its name. Closing the iterator ends the process.
    Raises DeviceError, about `name`, if the system ended it, as it does where the memory runs out.
    """
    context = multiprocessing.get_context("spawn")  # a fork would inherit what torch has started
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    with _interrupts_held():
        process.start()
    theirs.close()
    tidy = False
    try:
        with suppress(BrokenPipeError):  # it is dead already, as will be seen
            ours.send((work, arguments))
        while True:
            try:
                goes_on, item = ours.recv()
            except (EOFError, ConnectionError):
                process.join()
                raise _ended(name, process.exitcode) from None
            if not goes_on:
                break
            yield item
        tidy = True
        if item is not None:
            raise item
    finally:
        if not tidy:
            process.terminate()
        process.join(_TIDY_S)
        process.kill()
        ours.close()


def _work(parent: "Connection[Any, Any]") -> None:
    signal.signal(signal.SIGTERM, _stop)
    if not os.environ.get("VLM_DEBUG"):
        warnings.simplefilter("ignore")  # as `app.run` does
    failure: VlmError | None = None
    try:
        work, arguments = parent.recv()
        for item in work(*arguments):
            parent.send((True, item))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except VlmError as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        failure = error
    except (KeyboardInterrupt, EOFError, ConnectionError):  # whoever waited is gone
        os._exit(1)
    except Exception as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.environ.get("VLM_DEBUG"):
            traceback.print_exception(error)
        failure = as_bug(error)
    with suppress(ConnectionError):
        parent.send((False, failure))


def _stop(number: int, frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until this is over, and never reaches a process that starts meanwhile.

    Its whole group gets it, and a Python that is still importing would show a traceback: such a
    process is ended by its parent.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ended(name: str, code: int | None) -> DeviceError:
    if code == -9:  # SIGKILL, which Windows does not know
        hint = "did the memory run out? take a smaller model or picture"
        return DeviceError(f"{name}: its process was killed", hint=hint)
    return DeviceError(f"{name}: its process ended with code {code}", hint="VLM_DEBUG=1 says more")
