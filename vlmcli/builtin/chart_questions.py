"""What people ask about a bar chart, in English and Japanese, and what is right to say."""

from random import Random

from vlmcli import wording
from vlmcli.builtin.charts import Chart
from vlmcli.builtin.words import NUMBER_WORDS, asked, cased, read

HIGHEST = (
    "highest bar|which bar is highest|which bar is the highest|which bar is tallest|tallest bar|max"
    "|which is the biggest bar|which one is highest|what is the highest bar|largest bar|top bar"
    "|which bar has the highest value|which bar has the largest value|which is highest|maximum"
    "|which category is highest|which has the most|which label has the highest value|winner"
    "|name of the highest bar|which column is tallest|who has the most|biggest"
)
LOWEST = (
    "lowest bar|which bar is lowest|which bar is the lowest|which bar is shortest|shortest bar|min"
    "|which is the smallest bar|which one is lowest|what is the lowest bar|smallest bar|bottom bar"
    "|which bar has the lowest value|which bar has the smallest value|which is lowest|minimum"
    "|which category is lowest|which has the least|which label has the lowest value|smallest"
)
HIGHEST_VALUE = (
    "what is the highest value|highest value|max value|maximum value|what is the maximum"
    "|what is the largest value|largest value|what's the highest value|value of the highest bar"
    "|how high is the highest bar|what is the value of the tallest bar|biggest number"
    "|what is the max value|the highest number|how much is the highest bar"
)
LOWEST_VALUE = (
    "what is the lowest value|lowest value|min value|minimum value|what is the minimum"
    "|what is the smallest value|smallest value|what's the lowest value|value of the lowest bar"
    "|how low is the lowest bar|what is the value of the shortest bar|smallest number"
    "|what is the min value|the lowest number|how much is the lowest bar"
)
VALUE_OF = (
    "what is the value of {}|value of {}|{}|how much is {}|what is {}|how high is {}"
    "|what is the value of bar {}|value of bar {}|how high is bar {}|what value does {} have"
    "|what's the value for {}|{} value|how many for {}|number for {}|read the value of {}|bar {}"
)
HOW_MANY = (
    "how many bars|how many bars are there|number of bars|count the bars|how many columns"
    "|how many bars are in the chart|how many bars does the chart have|bar count"
    "|how many categories|how many bars can you see"
)
WHAT = "what is this|what is it|what do you see|what is in the picture|what kind of picture is this"
JAPANESE = {
    "highest value": (
        "棒グラフの最高値は何ですか|最高値は|最大値は|最大値はいくつですか|一番高い値は何ですか"
        "|最高値"
    ),
    "lowest value": (
        "棒グラフの最低値は何ですか|最低値は|最小値は|最小値はいくつですか|一番低い値は何ですか"
    ),
    "highest": (
        "一番高い棒は|一番高い棒はどれですか|最も高い棒は何ですか|どの棒が一番高いですか|最大の棒は"
    ),
    "lowest": (
        "一番低い棒は|一番低い棒はどれですか|最も低い棒は何ですか|どの棒が一番低いですか|最小の棒は"
    ),
    "count": "棒は何本ありますか|棒の数は|棒はいくつありますか|何本の棒がありますか",
    "value": "{}の値は|{}の値は何ですか|{}はいくつですか|{}の値を教えてください",
}
CAPTION = (
    *(wording.CAPTION_STYLES[style] for style in ("short", "detailed", "alt")),
    "describe this image",
    "describe the picture",
    "caption this",
    "what is this a picture of?",
    "describe this chart",
    "what does this chart show?",
)


def pairs(rng: Random, shown: Chart, count: int) -> list[tuple[str, str]]:
    """Questions about a chart, and their answers."""
    makers = [_extreme, _extreme, _extreme_value, _value, _value, _many, _caption, _japanese]
    return [make(rng, shown) for make in rng.choices(makers, k=count)]


def caption(shown: Chart) -> str:
    best = shown.highest
    return (
        f"A bar chart with {NUMBER_WORDS[len(shown.labels)]} bars; the highest is"
        f" {read(shown.labels[best])} with {read(shown.values[best])}."
    )


def _extreme(rng: Random, shown: Chart) -> tuple[str, str]:
    if rng.random() < 0.6:
        return cased(rng, asked(rng, HIGHEST)), read(shown.labels[shown.highest])
    return cased(rng, asked(rng, LOWEST)), read(shown.labels[shown.lowest])


def _extreme_value(rng: Random, shown: Chart) -> tuple[str, str]:
    if rng.random() < 0.6:
        return cased(rng, asked(rng, HIGHEST_VALUE)), read(shown.values[shown.highest])
    return cased(rng, asked(rng, LOWEST_VALUE)), read(shown.values[shown.lowest])


def _value(rng: Random, shown: Chart) -> tuple[str, str]:
    i = rng.randrange(len(shown.labels))
    label = shown.labels[i]
    marks = rng.choice(("{}", "{}", "{}", '"{}"', "'{}'"))
    typed = label.lower() if len(label) > 1 and rng.random() < 0.15 else label
    return asked(rng, VALUE_OF).replace("{}", marks.format(typed)), read(shown.values[i])


def _many(rng: Random, shown: Chart) -> tuple[str, str]:
    return cased(rng, asked(rng, HOW_MANY)), str(len(shown.labels))


def _caption(rng: Random, shown: Chart) -> tuple[str, str]:
    question = rng.choice(CAPTION) if rng.random() < 0.7 else asked(rng, WHAT)
    return question, caption(shown)


def _japanese(rng: Random, shown: Chart) -> tuple[str, str]:
    i = rng.randrange(len(shown.labels))
    answers = {
        "highest value": read(shown.values[shown.highest]),
        "lowest value": read(shown.values[shown.lowest]),
        "highest": read(shown.labels[shown.highest]),
        "lowest": read(shown.labels[shown.lowest]),
        "count": str(len(shown.labels)),
        "value": read(shown.values[i]),
    }
    kind = rng.choice(("highest value", *answers))
    return asked(rng, JAPANESE[kind]).replace("{}", shown.labels[i]), answers[kind]
