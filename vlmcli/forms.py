"""What is asked of an answer besides words: one of several choices, JSON of a schema, or code."""

import random
import secrets
from collections.abc import Sequence
from dataclasses import replace

from vlmcli import schemas, wording
from vlmcli.backends import Engine
from vlmcli.errors import AnswerError, ModelError, shown
from vlmcli.messages import Answer, Done, Message, seen_of
from vlmcli.settings import Settings


def asked(conversation: Sequence[Message], settings: Settings) -> Sequence[Message]:
    """What the model is given: the schema is told to it, too."""
    schema = settings.sampling.schema
    return conversation if schema is None else wording.in_form(conversation, schema)


def choose(engine: Engine, conversation: Sequence[Message], settings: Settings) -> Answer:
    """The likeliest of the choices or, at a temperature, one that is drawn by likelihood."""
    if engine.choose is None:
        raise ModelError(f"{engine.model} cannot weigh choices", hint="leave out --choices")
    chosen = engine.choose(conversation, settings.choices)
    chances = dict(zip(settings.choices, chosen.probabilities, strict=True))
    likeliest = max(chances, key=lambda choice: chances[choice])
    rounded = {choice: round(chance, 6) for choice, chance in chances.items()}
    if not settings.temperature:
        return Answer(likeliest, "", chosen.done, rounded)
    seed = secrets.randbits(32) if settings.seed is None else settings.seed
    # As with tokens: likelihoods are raised to the power of 1 / temperature.
    most, power = chances[likeliest], 1 / settings.temperature
    weights = [(chance / most) ** power for chance in chances.values()]
    (drawn,) = random.Random(seed).choices([*chances], weights)
    return Answer(drawn, "", replace(chosen.done, seed=seed), rounded)


def finished(text: str, done: Done, conversation: Sequence[Message], settings: Settings) -> str:
    """The answer in its form. Raises AnswerError if it is not JSON of the schema."""
    schema = settings.sampling.schema
    if schema is not None and not schemas.validate(text, schema):
        names = ", ".join(shown(one.name) for one in seen_of(conversation)[:3])
        raise AnswerError(f"{names}: {_how_it_ended(done)}", hint=_AFTER[done.reason])
    return first_code_block(text) if settings.extract else text


_AFTER = {
    "length": "-n allows more, maxLength and maxItems in the schema less",
    "loop": "bound strings and lists in the schema with maxLength and maxItems",
    "stop": "leave out --stop",
}


def _how_it_ended(done: Done) -> str:
    if done.reason == "length":
        return f"the answer was cut at {done.new_tokens} tokens, before its JSON was complete"
    if done.reason == "loop":
        return "the model repeated itself without end, and its JSON is not complete"
    return "the answer ended before its JSON was complete"


def first_code_block(text: str) -> str:
    """What stands in the first fenced block of a text; all of the text if there is none."""
    from markdown_it import MarkdownIt

    blocks = (token for token in MarkdownIt().parse(text) if token.type == "fence")
    block = next(blocks, None)
    return text if block is None else block.content.removesuffix("\n")
