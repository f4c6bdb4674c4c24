"""How long each turn of a conversation about a picture takes to its first token, beside an engine
that reads every conversation from its start.

python tests/bench/chat_turns.py [-m MODEL] [TURNS]

MODEL is a folder or a name as for `vlm ask`; without one it is the model that ships inside. The
times are those a user waits: preparing the picture is part of them. Each turn is asked of both
engines one after the other, so that the ratio holds on a machine that does other work as well.
"""

import argparse
import time
from collections.abc import Sequence

from PIL import Image

from vlmcli import config, messages
from vlmcli.backends import Engine
from vlmcli.backends.local import engine
from vlmcli.messages import Delta, Done, Message, Sampling

SIZE = (640, 480)
SAMPLING = Sampling(max_tokens=16)
QUESTIONS = ("What is in this picture?", "Which colours are there?", "Is there any text in it?")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-m", "--model", default="builtin")
    parser.add_argument("turns", nargs="?", type=int, default=5)
    arguments = parser.parse_args()
    settings = config.load({"model": arguments.model})
    remembers, forgets = engine.load(settings), engine.load(settings, remembers=False)
    print(f"{remembers.label}, a picture of {SIZE[0]} x {SIZE[1]}, then words")

    picture = Image.effect_noise(SIZE, 60).convert("RGB")
    warm_up = [messages.user(QUESTIONS[0], [messages.Image("warm", picture.rotate(180), "")])]
    for one in (remembers, forgets):
        ask(one, warm_up)
    turns: list[Message] = []
    for n in range(arguments.turns):
        seen = [] if n else [messages.Image("noise", picture, "")]
        turns.append(messages.user(QUESTIONS[n % len(QUESTIONS)], seen))
        with_s, answer, done = ask(remembers, turns)
        without_s, _, _ = ask(forgets, turns)
        print(
            f"turn {n + 1}: {done.prompt_tokens:5} tokens, {done.cached_tokens:5} known:"
            f" {with_s:6.2f} s, else {without_s:6.2f} s, ratio {with_s / without_s:.2f}",
            flush=True,
        )
        turns.append(Message("assistant", (messages.Text(answer or "Yes."),)))


def ask(loaded: Engine, conversation: Sequence[Message]) -> tuple[float, str, Done]:
    """Seconds to the first token, the answer and its end."""
    start_s = time.perf_counter()
    *deltas, done = loaded.generate(conversation, SAMPLING)
    assert isinstance(done, Done)
    # The first text may come tokens later than the first token: half a character waits.
    seconds = time.perf_counter() - start_s - done.seconds + done.seconds_to_first_token
    return seconds, "".join(delta.text for delta in deltas if isinstance(delta, Delta)), done


if __name__ == "__main__":
    main()
