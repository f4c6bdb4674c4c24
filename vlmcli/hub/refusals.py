"""What goes wrong with the Hub and its cache, in words: the boundary where it becomes ours."""

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from huggingface_hub import constants, errors, get_session, get_token

from vlmcli.errors import ModelError
from vlmcli.models import names

_LOG_IN = "set HF_TOKEN or run `hf auth login`"
_NETWORK = "is the network up? is there a proxy, or a sign-in page?"
_CERTIFICATE = (
    "if a proxy here signs its own, SSL_CERT_FILE names the file of its certificate authority"
)


class UnreachableError(ModelError):
    """The Hub cannot be asked, for want of a network or of leave to use it."""


class DamagedError(OSError):
    """A file that came whole from the Hub, and is not what the Hub says it is."""


_GARBLED = (json.JSONDecodeError, UnicodeEncodeError, errors.HFValidationError)
_ASKING = (httpx2.HTTPError, httpx2.InvalidURL, errors.OIDCError)
_FAILURES = (OSError, *_ASKING, *_GARBLED, RuntimeError)


@contextmanager
def explained(repo: str, revision: str = names.MAIN) -> Iterator[None]:
    """What the Hub, the cache and the network raise inside leaves as a ModelError of one line."""
    try:
        yield
    except _FAILURES as error:
        wrapper = isinstance(error, errors.LocalEntryNotFoundError)
        known = _explanation((wrapper and error.__cause__) or error, repo, revision)
        raise type(known)(public(known.message), hint=public(known.hint)) from error


def public(text: str) -> str:
    """`text` without the password that a URL may hold: errors and reports are shown around."""
    return re.sub(r"//[^/@\s]*@", "//…@", text)


def session() -> httpx2.Client:
    """What the Hub is asked with.

    Raises UnreachableError if the environment names a proxy or certificates that are of no use.
    """
    try:
        return get_session()
    except ImportError as error:
        hint = "pip install socksio, or name an HTTP proxy"
        raise UnreachableError("a SOCKS proxy needs the package socksio", hint=hint) from error
    except OSError as error:  # before ValueError, which some of these are too
        named = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR", "")
        hint = "SSL_CERT_FILE names a file of certificates; unset, the usual ones are taken"
        raise UnreachableError(f"no certificates in {named!r}", hint=hint) from error
    except (ValueError, httpx2.InvalidURL) as error:
        hint = "write HTTP_PROXY, HTTPS_PROXY and ALL_PROXY as http://host:port"
        raise UnreachableError(f"no such proxy: {public(str(error))}", hint=hint) from error


def _explanation(error: BaseException, repo: str, revision: str) -> ModelError:
    hub = constants.ENDPOINT
    match error:
        case errors.GatedRepoError():  # before its base class, RepositoryNotFoundError
            page = f"accept its terms at {hub}/{repo}"
            if get_token():
                hint = f"{page} with the account of your token, and wait for leave if it asks"
                return ModelError(f"{repo} is gated, and your token has no access", hint=hint)
            return ModelError(f"{repo} is gated", hint=f"{page}, then {_LOG_IN}")
        case errors.RepositoryNotFoundError():
            hint = names.nearest(repo) or f"if it is private, {_LOG_IN}"
            return ModelError(f"no model {repo} on {hub}", hint=hint)
        case errors.RevisionNotFoundError():
            return ModelError(f"{repo} has no revision {revision}", hint=f"see {hub}/{repo}")
        case errors.RemoteEntryNotFoundError():
            hint = "it is not whole there; see its page, or try another revision"
            return ModelError(f"{hub} lists a file of {repo} that it does not have", hint=hint)
        case errors.HfHubHTTPError():
            return _refusal(error.response.status_code, repo)
        case errors.OfflineModeIsEnabled():
            return UnreachableError(f"{repo}: HF_HUB_OFFLINE forbids to ask the Hub")
        case errors.OIDCError():
            return ModelError("no token for HF_OIDC_RESOURCE", hint=str(error))
        case errors.HFValidationError():
            return ModelError(f"no model is called {repo!r}", hint=names.FORMS)
        case TimeoutError() | httpx2.TimeoutException():
            return UnreachableError(f"{hub} did not answer in time", hint=_NETWORK)
        case httpx2.LocalProtocolError() | UnicodeEncodeError():  # whose text holds the token
            return ModelError("the token holds a character that none can", hint=_LOG_IN)
        case httpx2.ConnectError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            reason = f"{hub} shows a certificate that this machine does not trust"
            return UnreachableError(reason, hint=_CERTIFICATE)
        case httpx2.HTTPError() | httpx2.InvalidURL():
            return UnreachableError(f"cannot reach {hub}: {error}", hint=_NETWORK)
        case json.JSONDecodeError():
            return UnreachableError(f"{hub} does not answer as a Hub does", hint=_NETWORK)
        case DamagedError():
            hint = "run it again; if it stays so, tell whoever runs the Hub or the proxy"
            return ModelError(f"{repo}: {error}", hint=hint)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EFBIG):
            hint = "free some space, or name another place with HF_HOME; it then goes on"
            reason = f"no space left for {repo} in {constants.HF_HUB_CACHE}"
            return ModelError(reason, hint=hint)
        case OSError(errno=errno.EACCES | errno.EPERM | errno.EROFS):
            return ModelError(f"no access to {error.filename}", hint="HF_HOME moves the cache")
    return ModelError(f"cannot download {repo}: {' '.join(str(error).split())}")


def _refusal(status: int, repo: str) -> ModelError:
    answer = f"{constants.ENDPOINT} answers {status} for {repo}"
    if status >= 500:
        return UnreachableError(answer, hint="the Hub is in trouble: try again later")
    refused = "it does not take your token" if get_token() else "it wants a token"
    hints = dict.fromkeys((401, 403), f"{refused}: {_LOG_IN}")
    hints[429] = f"you asked too often: wait a few minutes; with a token you may more: {_LOG_IN}"
    return ModelError(answer, hint=hints.get(status, ""))
