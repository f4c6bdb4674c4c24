"""Models that run here, through transformers.

`engine` loads and answers; `processors` reads a model's processor; `prompt` turns messages into
inputs; `literal` keeps special tokens in a user's text from being structure; `decode` turns tokens
into the `words` of an answer, of which `thoughts` are no part, and holds it to a `constraint`;
`cache` keeps what was read of a conversation, in `layers` that can be gone back on, as long as the
`pixels` are the same. `likelihood` weighs answers instead of giving one: it walks the `spelling` of
each in the tokens of the `vocabulary`, in `branches` that go on from one prompt. `quantize` says
which layers become the smaller ones of `kernels`.
"""

import importlib.util
import sys


def hide_broken_torchvision() -> str:
    """Make a torchvision that is installed but cannot be imported look absent; what is wrong.

    transformers asks only whether the package is there, and then fails in the middle of a load.
    """
    if importlib.util.find_spec("torchvision") is None:
        return ""
    try:
        importlib.import_module("torchvision")
    except (
        Exception
    ) as error:  # ImportError, OSError, RuntimeError: whatever its extension modules raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        # None is Python's own mark for "do not import this"; find_spec honours it.
        sys.modules["torchvision"] = None  # type: ignore[assignment]
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""


torchvision_fault = (
    hide_broken_torchvision()
)  # before any module of this package imports transformers
