"""Words to print, ways to put a question, and helpers of the answers."""

from collections.abc import Sequence
from random import Random

from vlmcli.builtin.tokens import READ

NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")

_SIGNS = tuple(
    """
open closed sale exit enter stop slow danger caution private parking welcome hotel cafe bakery
fresh bread coffee tea milk water pizza pasta salad soup fish meat fruit apple orange banana grape
push pull ring bell office lobby floor level gate door room stairs lift taxi bus train station
platform ticket museum library school park garden beach river bridge road street avenue north
south east west left right keep clear quiet please wait here turn back go yield speed limit zone
free paid cash card only staff guests visitors no smoking dogs bikes cars trucks fire alarm first
aid help information desk toilet women men family baby change price offer today monday tuesday
wednesday thursday friday saturday sunday january february march april may june july august
september october november december winter spring summer autumn red blue green black white gold
silver big small hot cold new old best super mega mini extra large medium total sum tax paid date
name phone mail web shop market store pharmacy doctor clinic police bank post airport flight delay
arrivals departures boarding kitchen bar grill sushi noodle burger taco salsa cheese honey sugar
salt pepper rice beans corn
""".split()  # noqa: SIM905 - a list of so many would fill pages
)
# For the evaluation: none of these is among those above.
_SIGNS_HELD_OUT = tuple(
    """
bistro lemon cherry tulip harbor lighthouse castle theater cinema studio gallery fountain tunnel
crossing wharf marina bicycle helmet rocket planet saturn jupiter galaxy window mirror carpet
pillow blanket drawer laundry bathroom basement attic elevator escalator reception customs
passport luggage pancake waffle muffin yogurt ginger garlic onion carrot spinach mango peach
almond walnut vanilla detour roadwork upstairs downstairs outlet factory workshop hospital dentist
veterinary barber florist
""".split()  # noqa: SIM905 - a list of so many would fill pages
)
_SYLLABLES = [c + v for c in "bdfghklmnprstvwz" for v in "aeiou"] + ["an", "el", "in", "or", "us"]


def word(rng: Random, *, held_out: bool = False) -> str:
    """A word as signs have them, in one of the usual cases."""
    kind = rng.random()
    if held_out:
        base = rng.choice(_SIGNS_HELD_OUT)
    elif kind < 0.45:
        base = rng.choice(_SIGNS)
    elif kind < 0.85:
        base = "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice((1, 2, 2, 3, 3, 4))))
    else:
        base = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randrange(2, 8)))
    return rng.choice((str.upper, str.upper, str.capitalize, str.lower))(base)


def number(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.35:
        return str(rng.randrange(1, 100))
    if kind < 0.6:
        return str(rng.randrange(100, 10000))
    if kind < 0.7:
        return f"{rng.randrange(1, 100)}.{rng.randrange(10)}"
    if kind < 0.8:
        return f"{rng.randrange(1, 100)}%"
    if kind < 0.9:
        return f"${rng.randrange(1, 200)}"
    return f"{rng.randrange(1, 24)}:{rng.randrange(60):02d}"


def read(text: str) -> str:
    """Text that the model is to copy from the picture, letter by letter."""
    return f"{READ}{text}{READ}"


def listed(parts: Sequence[str]) -> str:
    """a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def counted(name: str, count: int) -> str:
    return f"{NUMBER_WORDS[count]} {name}{'s' if count != 1 else ''}"


def asked(rng: Random, forms: str | Sequence[str]) -> str:
    """One of the wordings, in one of the ways in which people type: case, mark, politeness."""
    question = rng.choice(forms.split("|") if isinstance(forms, str) else forms).strip()
    if question[0].isascii():
        if rng.random() < 0.06:
            question = (
                rng.choice(("please tell me ", "tell me, ", "can you say ", "so ", "hey, "))
                + question
            )
        mark = rng.random()
        if mark < 0.55:
            question += "?"
        elif mark < 0.6:
            question += rng.choice((".", "??", " ?", "!"))
        case = rng.random()
        if case < 0.4:
            question = question[0].upper() + question[1:]
        return question
    return question + rng.choice(("？", "?", "", "。"))


def cased(rng: Random, question: str) -> str:
    """Now and then all in capitals; not for questions that name something printed."""
    return question.upper() if rng.random() < 0.05 else question
