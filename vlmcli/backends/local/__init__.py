"""Models that run here, through transformers.

`engine` loads and answers; `processors` reads a model's processor; `prompt` turns messages into
inputs, with pictures in the `resolution` that is asked for, in the `ways` of their processors;
`literal` keeps special tokens in a user's text from being structure; `decode` turns tokens into the
`words` of an answer, of which `thoughts` are no part, and holds it to a `constraint`; the tokens
come from a `loop` whose `steps` are `lean` where the model is of that shape, its `linears` joined;
`cache` keeps what was read of a conversation, in `layers` that can be gone back on, as long as the
`pixels` are the same. `features` keeps what the `encoders` made of them, one `featurefile` for each
picture that can be told apart in `pieces`. `likelihood` weighs answers instead of giving one: it
walks the `spelling` of each in the tokens of the `vocabulary`, in `branches` that go on from one
prompt. `imports` keeps transformers from importing what is never used; `quantize` says
which layers become the smaller ones of `vlmcli.cpu`, or of bitsandbytes.

`many` conversations are answered side by side, as far as there is `room`: `batching` puts prompts
together and proves that each is answered as if it were alone, and `rows` are their answers.
"""

import importlib.util
import sys

from vlmcli.backends.local import imports


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


# Before any module of this package imports transformers, and in this order.
imports.stand_in_for_compiler()
torchvision_fault = hide_broken_torchvision()
imports.stand_in_for_shapes()
imports.without_spread_tensors()
