"""The same charts drawn by matplotlib, where it is installed (`pip install vlmcli[train]`)."""

import io
from importlib.util import find_spec
from random import Random
from typing import Any

from PIL import Image

from vlmcli.builtin.charts import Chart, muted
from vlmcli.builtin.drawing import CHARS, LEAST_PRINT, SIDE, START, THINGS, Canvas, Picture, code

AVAILABLE = find_spec("matplotlib") is not None
_FAMILIES = ("DejaVu Sans", "DejaVu Serif", "DejaVu Sans Mono", "STIXGeneral", "cmss10")


def draw(rng: Random, level: float, shown: Chart, *, held_out: bool = False) -> Picture:
    """A bar chart in the ways that people leave matplotlib's settings."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["font.family"] = "cmr10" if held_out else rng.choice(_FAMILIES)
    mpl.rcParams["axes.formatter.use_mathtext"] = True  # what the cm fonts ask for
    sizes = (
        ((5.5, 4.2), (4.6, 4.6))
        if held_out
        else ((6.4, 4.8), (5, 4), (4, 4), (6, 6), (4.8, 4.8), (8, 6))
    )
    figure = Figure(figsize=rng.choice(sizes), dpi=100)
    axes: Any = figure.add_subplot()
    # Smaller print than this is lost when the picture is brought to SIDE.
    least_pt = LEAST_PRINT * max(figure.get_size_inches()) * 72 / SIDE
    bars, print_pt = _bars(rng, axes, shown, least_pt)
    texts = [
        *axes.bar_label(bars, labels=shown.values, fontsize=print_pt, padding=rng.choice((0, 2, 3)))
    ]
    axes.set_xticks(range(len(shown.labels)), shown.labels, fontsize=print_pt)
    if shown.title:
        texts.append(axes.set_title(shown.title, fontsize=print_pt * rng.uniform(1, 1.4)))
    _frame(rng, axes)
    figure.tight_layout()
    file = io.BytesIO()
    figure.savefig(file, format="png")
    image = Image.open(file).convert("RGB")
    canvas = Canvas(image, Image.new("L", image.size, 0))
    texts += axes.get_xticklabels()
    _note(canvas, texts, [bar.get_window_extent() for bar in bars])
    return canvas.picture(rng, wear=rng.random() < level)


def _bars(rng: Random, axes: Any, shown: Chart, least_pt: float) -> tuple[Any, float]:
    count = len(shown.labels)
    fills: Any = [tuple(c / 255 for c in muted(rng, (255, 255, 255))) for _ in range(count)]
    if rng.random() < 0.4:
        fills = rng.choice(("C0", "C1", "C2", "steelblue", "orange", "salmon", "seagreen"))
    elif rng.random() < 0.4:
        fills = [f"C{i}" for i in range(count)]
    bars = axes.bar(range(count), shown.numbers, width=rng.uniform(0.4, 0.9), color=fills)
    longest = max(len(text) for text in (*shown.labels, *shown.values))
    return bars, least_pt * rng.uniform(1, 2 if longest < 4 else 1.3 if count < 5 else 1)


def _frame(rng: Random, axes: Any) -> None:
    if rng.random() < 0.3:
        axes.spines[["top", "right"]].set_visible(False)
    if rng.random() < 0.25:
        axes.grid(axis="y", alpha=0.4)
        axes.set_axisbelow(True)
    if rng.random() < 0.3:
        axes.set_yticks([])
    axes.margins(y=rng.uniform(0.08, 0.2))


def _note(canvas: Canvas, texts: list[Any], boxes: list[Any]) -> None:
    """Where matplotlib wrote and drew, as labels; it counts up from the bottom."""
    height = canvas.image.height
    for text in texts:
        words, box = text.get_text(), text.get_window_extent()
        said = [START, START, *(code(char) for char in words)]
        parts = words.split(" ")
        for i, char in enumerate(words):
            if char in CHARS:
                x = box.x0 + (box.x1 - box.x0) * (i + 0.5) / len(words)
                part = words[:i].count(" ")
                first = sum(len(p) + 1 for p in parts[:part])
                middle = box.x0 + (box.x1 - box.x0) * (first + len(parts[part]) / 2) / len(words)
                y = height - (box.y0 + box.y1) / 2
                canvas.chars.append((x, y, CHARS.index(char), said[i + 1], said[i], middle))
    for box in boxes:
        area = (box.x0, height - box.y1, box.x1, height - box.y0)
        canvas.things.paste(1 + THINGS.index("bar"), tuple(round(v) for v in area))
        across, down = area[2] - area[0], area[3] - area[1]
        canvas.marks.append((area[0] + across / 2, area[1], across, down, THINGS.index("bar"), 0))
