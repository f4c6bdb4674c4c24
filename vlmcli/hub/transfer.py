"""What goes on while bytes come from the Hub: who watches, and how Ctrl-C ends it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2
from huggingface_hub import constants
from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

from vlmcli.hub.refusals import session
from vlmcli.interrupts import Stop


class Watch(Protocol):
    """Is told how a download goes, from several threads; sizes in bytes."""

    def expect(self, repo: str, total: int, done: int) -> None:
        """So much is to be there in the end, and so much is there by now."""

    def start(self, file: str, total: int, done: int) -> None: ...
    def advance(self, file: str, count: int) -> None: ...
    def finish(self, file: str) -> None: ...

    def wait(self, file: str) -> None:
        """Another process is fetching the file."""


class Unwatched:
    """Where nobody looks."""

    def expect(self, repo: str, total: int, done: int) -> None:
        pass

    def start(self, file: str, total: int, done: int) -> None:
        pass

    def advance(self, file: str, count: int) -> None:
        pass

    def finish(self, file: str) -> None:
        pass

    def wait(self, file: str) -> None:
        pass


UNWATCHED = Unwatched()


@dataclass(frozen=True, slots=True)
class Reporter:
    """Carries word of the bytes out, and Ctrl-C in."""

    stop: Stop
    watch: Watch

    def start(self, file: str, total: int, known: int, have: int) -> None:
        """`known` bytes were there when the whole was counted; another process may have gone on."""
        self.watch.start(file, total, known)
        if have != known:
            self.watch.advance(file, have - known)

    def bar(self, file: str) -> Any:
        """What the library takes for the class of its progress bars."""
        stop, watch = self.stop, self.watch

        class Bar:
            def __init__(self, **_options: object) -> None:
                pass

            def __enter__(self) -> "Bar":
                return self

            def __exit__(self, *_error: object) -> None:
                pass

            def update(self, count: int) -> None:
                stop.check()
                watch.advance(file, count)

        return Bar


def silent(stop: Stop) -> Any:
    """Bars of `snapshot_download` that show nothing, and raise once `stop` is set."""

    class Silent(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options | {"disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> Any:
            stop.check()
            return super().update(n)

    return Silent


@contextmanager
def watched_session(stop: Stop) -> Iterator[None]:
    """Nothing is asked of the Hub once `stop` is set, and nothing waits for ever."""

    def ask(request: httpx2.Request) -> None:
        stop.check()
        for phase, timeout_s in request.extensions["timeout"].items():
            request.extensions["timeout"][phase] = timeout_s or constants.HF_HUB_DOWNLOAD_TIMEOUT

    def hear(response: httpx2.Response) -> None:
        stop.sockets.add(response.extensions["network_stream"].get_extra_info("socket"))
        stop.check()

    hooks = session().event_hooks
    hooks["request"].append(ask)
    hooks["response"].append(hear)
    try:
        yield
    finally:
        with suppress(ValueError):
            hooks["request"].remove(ask)
            hooks["response"].remove(hear)
