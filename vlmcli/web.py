"""A URL -> its bytes, within a size and a time, led astray by no redirect."""

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from queue import Empty, SimpleQueue
from threading import Thread

import httpx2

from vlmcli import __version__
from vlmcli.errors import InputError, shown

MAX_REDIRECTS = 5

Gather = Callable[[Iterable[bytes]], bytes]


def fetch(url: str, gather: Gather, *, max_bytes: int, timeout_s: float) -> bytes:
    """What `gather` makes of the chunks of the body; it may raise to end the transfer.

    One deadline holds for all of it, which the timeouts of the HTTP library do not: those start
    afresh with every byte, and none covers the look-up of the host. Raises InputError.
    """
    deadline_s = time.monotonic() + timeout_s
    too_slow = InputError(
        f"{shown(url)}: not here within {timeout_s:g} s", hint="--url-timeout waits longer"
    )
    answer: SimpleQueue[bytes | BaseException] = SimpleQueue()

    def work() -> None:
        try:
            answer.put(_request(url, gather, max_bytes, deadline_s))
        except BaseException as error:  # handed to the reader, which raises it
            answer.put(error)

    Thread(target=work, daemon=True).start()
    try:
        got = answer.get(timeout=timeout_s)
    except Empty:
        raise too_slow from None
    match got:
        case bytes():
            return got
        case httpx2.TimeoutException() | TimeoutError():
            raise too_slow from got
        case httpx2.RequestError() | httpx2.InvalidURL() | UnicodeError():
            raise InputError(f"{shown(url)}: {_why(got)}", hint=shown(str(got))) from got
        case _:
            raise got


def _request(url: str, gather: Gather, max_bytes: int, deadline_s: float) -> bytes:
    headers = {"User-Agent": f"vlm/{__version__}", "Accept-Encoding": "identity"}
    timeout_s = max(deadline_s - time.monotonic(), 0.001)
    with httpx2.Client(headers=headers, timeout=timeout_s) as client:
        request = client.build_request("GET", url)
        for _ in range(MAX_REDIRECTS + 1):
            with closing(client.send(request, stream=True)) as response:
                if response.next_request is None:
                    return _body(url, gather, response, max_bytes, deadline_s)
                _check_redirect(url, request.url, response.next_request.url)
                request = response.next_request
    raise InputError(f"{shown(url)}: more than {MAX_REDIRECTS} redirects")


def _body(
    url: str, gather: Gather, response: httpx2.Response, max_bytes: int, deadline_s: float
) -> bytes:
    if response.status_code != httpx2.codes.OK:
        status = f"{response.status_code} {httpx2.codes.get_reason_phrase(response.status_code)}"
        raise InputError(
            f"{shown(url)}: the server answers {status.strip()}",
            hint="does it open in a browser, without a login?",
        )
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise too_large(url, max_bytes)

    def in_time() -> Iterator[bytes]:
        for chunk in response.iter_bytes():
            if time.monotonic() > deadline_s:
                raise TimeoutError
            yield chunk

    return gather(in_time())


def _check_redirect(url: str, old: httpx2.URL, new: httpx2.URL) -> None:
    """Refuses to leave the web, or to be led from outside to a service inside this network.

    Against mistakes and simple tricks: a name that changes its address in between gets through.
    """
    if new.scheme not in ("http", "https"):
        raise InputError(f"{shown(url)}: refused, it redirects to {shown(new.scheme)}:")
    if _is_inside(new.host) and not _is_inside(old.host):
        raise InputError(
            f"{shown(url)}: refused, it redirects to {shown(new.host)} in this network",
            hint="name that URL itself if you trust it",
        )


def _is_inside(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None)
    except (
        OSError,
        UnicodeError,
    ):  # no address here: the connection, or a proxy, has the last word
        return False
    return any(not ipaddress.ip_address(address[0]).is_global for *_, address in found)


def _why(error: BaseException) -> str:
    causes = []
    cause: BaseException | None = error
    while cause:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    for kinds, words in _REASONS:
        if any(isinstance(cause, kinds) for cause in causes):
            return words
    return "the transfer broke off"


_REASONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    ((httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError), "not a valid URL"),
    (socket.gaierror, "there is no such host"),
    (ssl.SSLCertVerificationError, "the server's certificate cannot be trusted"),
    (ssl.SSLError, "no secure connection"),
    (ConnectionRefusedError, "the server refuses the connection"),
    (httpx2.ConnectError, "no connection"),
)


def too_large(name: str, max_bytes: int) -> InputError:
    """The error of something from outside that is larger than the settings allow."""
    return InputError(
        f"{shown(name)}: larger than {max_bytes} bytes", hint="--max-download-bytes raises it"
    )
