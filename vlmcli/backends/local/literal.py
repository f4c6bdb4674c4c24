"""Text is text: special tokens that a user types reach the model as characters.

`<image>` or `<|im_end|>` in a question would otherwise be an image that is not there, or the end of
the turn. A noncharacter is put inside each such spelling, so that neither the template, nor the
processor, nor the tokenizer takes it for a token; the tokenizer's normalizer then takes the
noncharacter out again, after tokens were looked for and before the text is cut into pieces. What
the model gets are exactly the user's characters.
"""

import itertools
import re
from collections.abc import Sequence

from tokenizers import AddedToken, normalizers

from vlmcli.backends.local.processors import Processor
from vlmcli.errors import ModelError

# Unicode sets it aside for the inside of a program; no text that is interchanged holds it.
MARK = "\ufdd0"


def protect(processor: Processor, texts: Sequence[str], template: str) -> list[str]:
    """The texts of one turn, with a mark inside every spelling of a token that means structure.

    Those are the special tokens, what the processor replaces, and what the chat template writes. A
    template may put the texts side by side, so spellings are looked for across their seams too.
    Raises ModelError for a tokenizer that cannot be taught to drop the mark.
    """
    texts = [text.replace(MARK, "") for text in texts]
    whole = "".join(texts)
    inside = {
        found.start() + 1
        for token in _structure(processor, template)
        for found in re.finditer(f"(?={re.escape(token)})", whole)
    }
    if not inside:
        return texts
    _drop_marks(processor)
    ends = list(itertools.accumulate(map(len, texts), initial=0))
    return [_marked(whole, start, end, inside) for start, end in itertools.pairwise(ends)]


def _marked(whole: str, start: int, end: int, inside: set[int]) -> str:
    cuts = [start, *sorted(place for place in inside if start < place <= end), end]
    return MARK.join(whole[a:b] for a, b in itertools.pairwise(cuts))


def _structure(processor: Processor, template: str) -> set[str]:
    added = processor.tokenizer.added_tokens_decoder.values()
    tokens = {token.content for token in added if token.special or token.content in template}
    tokens |= {
        value
        for key, value in vars(processor.combined).items()
        if key.endswith("_token") and isinstance(value, str)
    }
    return {token for token in tokens if len(token) > 1}


def _drop_marks(processor: Processor) -> None:
    tokenizer = getattr(processor.tokenizer, "backend_tokenizer", None)
    if tokenizer is None:
        raise ModelError(
            f"{processor.name} would take a special token in the text for structure",
            hint="take the token out of the text",
        )
    before = tokenizer.normalizer
    if before is not None and before.normalize_str(MARK) == "":
        return  # taught already
    # Tokens that are looked for after the normalizer would be found again once the mark is gone.
    tokenizer.add_special_tokens(
        [
            AddedToken(token.content, special=True, normalized=False)
            for token in processor.tokenizer.added_tokens_decoder.values()
            if token.special and token.normalized
        ]
    )
    drop = normalizers.Replace(MARK, "")
    tokenizer.normalizer = normalizers.Sequence([drop, before]) if before else drop
