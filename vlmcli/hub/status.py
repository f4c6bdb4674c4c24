"""Whether the Hub answers, and whether it takes the token: never more than a few seconds."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

import httpx2
from huggingface_hub import constants
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

from vlmcli.errors import ModelError
from vlmcli.hub.refusals import UnreachableError, explained, public, session
from vlmcli.models import catalog

LIMIT_S = 3.0
_PROBE = catalog.RECOMMENDED.name


@dataclass(frozen=True, slots=True)
class Status:
    """What the Hub says; None where it was not asked, or does not say.

    `token_from` is empty if there is no token. `trouble` is what went wrong, if anything did.
    """

    endpoint: str
    token_from: str
    reachable: bool | None = None
    token_taken: bool | None = None
    trouble: ModelError | None = None


def status(*, offline: bool, limit_s: float = LIMIT_S) -> Status:
    """Ask the Hub for a model, and whose the token is; all of it within `limit_s`."""
    endpoint, token_from = public(constants.ENDPOINT), token_origin()
    if offline or constants.HF_HUB_OFFLINE:
        return Status(endpoint, token_from)
    deadline_s = time.monotonic() + limit_s
    try:
        with explained(_PROBE):
            _check_is_hub(_get(f"/api/models/{_PROBE}", False, deadline_s))
    except UnreachableError as error:
        return Status(endpoint, token_from, reachable=False, trouble=error)
    if not token_from:
        return Status(endpoint, "", reachable=True)
    try:
        with explained(_PROBE):
            answer = _get("/api/whoami-v2", True, deadline_s).status_code
    except UnreachableError as error:
        return Status(endpoint, token_from, reachable=True, trouble=error)
    except ModelError as error:  # it cannot even be sent
        return Status(endpoint, token_from, reachable=True, token_taken=False, trouble=error)
    taken = {200: True, 401: False, 403: False}.get(answer)
    return Status(endpoint, token_from, reachable=True, token_taken=taken)


def token_origin() -> str:
    """The variable or the file of the token that the Hub is sent; empty if it is sent none."""
    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return ""
    for variable in ("HF_OIDC_RESOURCE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if os.environ.get(variable, "").strip():
            return variable
    try:
        written = Path(constants.HF_TOKEN_PATH).read_bytes().strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError:
        written = b"?"  # there, and not to be read: every request will fail of it
    return constants.HF_TOKEN_PATH if written else ""


def _get(path: str, token: bool, deadline_s: float) -> httpx2.Response:
    """The answer; TimeoutError at the deadline.

    In a thread: no timeout covers the look-up of a host, or the renewal of a token.
    """
    answer: SimpleQueue[httpx2.Response | BaseException] = SimpleQueue()
    left_s = max(0.1, deadline_s - time.monotonic())

    def work() -> None:
        try:
            headers = build_hf_headers(token=token)
            url = f"{constants.ENDPOINT}{path}"
            answer.put(session().get(url, headers=headers, timeout=left_s))
        except BaseException as error:  # handed to the reader, which raises it
            answer.put(error)

    Thread(target=work, daemon=True).start()
    try:
        got = answer.get(timeout=left_s)
    except Empty:
        raise TimeoutError from None
    if isinstance(got, BaseException):
        raise got
    return got


def _check_is_hub(response: httpx2.Response) -> None:
    """Raise what `explained` reads if this is not what a Hub says, even when it refuses."""
    if response.status_code >= 500:
        hf_raise_for_status(response)
    if "X-Error-Code" not in response.headers and response.status_code not in (401, 403, 429):
        response.json()
