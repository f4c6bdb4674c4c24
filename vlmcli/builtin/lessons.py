"""What one step teaches: losses, and counts for the log."""

import torch
from torch import Tensor
from torch.nn import functional

from vlmcli.builtin.batches import Lesson, Seen
from vlmcli.builtin.labels import by_cell, place_waves
from vlmcli.builtin.model import Pupil, normalized
from vlmcli.builtin.rows import IGNORED

Counts = dict[str, float]
HALF_WAY = 3
"""Layers of the decoder after which it is asked what the deep head asks."""
DEEP_WEIGHT = 0.5


def look(pupil: Pupil, seen: Seen) -> tuple[Tensor, Tensor, Counts]:
    """Name what is in pictures: the loss, the eye's cells, the counts."""
    cells, finer = pupil.see(normalized(seen.pixels))
    loss, counts = pupil.dense(cells, seen.truth)
    more, named = pupil.fine(finer, seen.truth)
    loss, counts = loss + more, counts | named
    return loss + _place_loss(pupil, cells), cells, {k: float(v) for k, v in counts.items()}


def match(pupil: Pupil, cells: Tensor, seen: Seen) -> tuple[Tensor, Counts]:
    """The connector hands on what an eye without mistakes would."""
    with torch.no_grad():
        spoken = pupil.spoken()
        wanted = pupil.ideal(seen.truth, spoken).float()
        codes = pupil.ideal.codes(spoken.float())
    given = pupil.connect(cells).float()
    missed = (given - wanted).square().mean(-1) / wanted.square().mean()
    # Few cells hold anything: alike with all the others they would hardly count.
    held = (by_cell(seen.truth.slots) > 0).any(-1) | (seen.truth.marks[:, 0] > 0).flatten(1)
    here = (missed * held).sum() / held.sum().clamp(min=1)
    elsewhere = (missed * ~held).sum() / (~held).sum().clamp(min=1)
    told, right = _told_apart(given - wanted, codes, seen)
    return here + elsewhere + told, {"match": float(here.detach()), "told": right}


def _told_apart(
    missed: Tensor, codes: tuple[Tensor, Tensor, Tensor], seen: Seen
) -> tuple[Tensor, float]:
    """What is handed on of a character, a thing or a colour is nearest to its own code.

    Measured by how much it misses, a letter hardly counts beside all that a cell says of places:
    with 0.13 of all missed, 70 % of the letters were nearest to their own code, while the eye
    named 93 %. The loss, and the share of characters that are.
    """
    chars, things, colors = codes
    slots = by_cell(seen.truth.slots)
    picture, cell, place = (slots > 0).nonzero(as_tuple=True)
    labels = slots[picture, cell, place] - 1
    loss, right = missed.sum() * 0, 0
    for i, known in enumerate(chars):
        here = (place == i).nonzero(as_tuple=True)[0]
        wrong, hits = _nearest(missed[picture[here], cell[here]], known, labels[here])
        loss, right = loss + wrong, right + hits
    loss = loss / max(1, len(labels))
    for known, named in zip((things, colors), seen.truth.marks.flatten(2).unbind(1), strict=True):
        marked = named > 0
        wrong, _ = _nearest(missed[marked], known, named[marked] - 1)
        loss = loss + wrong / marked.sum().clamp(min=1)
    return loss, right / max(1, len(labels))


def _nearest(missed: Tensor, codes: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """(n, width) off from the codes of `labels`: the loss summed up, and how many are nearest."""
    given = missed + codes[labels]
    distances = codes.square().sum(-1) - 2 * given @ codes.T
    sharpness = 5 / codes.square().sum(-1).mean()
    loss = functional.cross_entropy(-sharpness * distances, labels, reduction="sum")
    return loss, int((distances.argmin(-1) == labels).sum())


def imagine(pupil: Pupil, lesson: Lesson) -> tuple[Tensor, Counts]:
    """Answer the questions from the labels instead of the pictures."""
    given = pupil.ideal.at(lesson.seen.truth, pupil.spoken(), lesson.cells)
    loss, counts = _answers(pupil, lesson, given)
    return loss, {f"imagined {key}": value for key, value in counts.items()}


def answer(
    pupil: Pupil, lesson: Lesson, cells: Tensor, *, apart: bool = False
) -> tuple[Tensor, Counts]:
    """Answer the questions from what the eye sees: its cells, of each picture of the lesson.

    With `apart` only the decoder learns from it, and gets used to the mistakes of the eye.
    """
    given = pupil.connect(cells).flatten(0, 1)[lesson.cells]
    return _answers(pupil, lesson, given.detach() if apart else given)


def _answers(pupil: Pupil, lesson: Lesson, given: Tensor) -> tuple[Tensor, Counts]:
    logits, labels, answers, half, later = _spoken(pupil, lesson, given)
    losses = functional.cross_entropy(logits.float(), labels, reduction="none")
    # Each answer weighs the root of its length: neither yes and no nor long captions rule.
    lengths = torch.bincount(answers, minlength=len(lesson.kinds)).clamp(min=1)
    weights = lengths[answers].float() ** -0.5
    spoken = (losses * weights).sum() / weights.sum()
    here = lesson.ids == pupil.model.config.image_token_id
    deep, known = pupil.deep(half[here], lesson.seen.truth, lesson.cells)
    row, column, many, colors, other = lesson.named.unbind(-1)
    deep = deep + pupil.deep.look_up(half[row, column], many, colors, lesson.spans)
    two = other >= 0
    knows = later[row[two], column[two]]
    deep = deep + 4 * pupil.deep.compare(knows, lesson.spans[other[two]], lesson.spans[two])
    row, column, change = lesson.since.unbind(-1)
    deep = deep + pupil.deep.compare_pictures(half[row, column], change)
    read = lesson.where[..., 0] >= 0
    asks = lesson.labels == IGNORED
    for knows, asked in (half, read & here), (later, read & asks & ~here), (later, read & ~asks):
        deep = deep + 2 * pupil.deep.look_for(knows[asked], lesson.where[asked])
    wrong = torch.zeros(len(lesson.kinds), device=labels.device)
    wrong.index_add_(0, answers, (logits.argmax(-1) != labels).float())
    counts: Counts = {"loss": float(spoken.detach()), "steps": 1.0}
    for kind, misses in zip(lesson.kinds, wrong.tolist(), strict=True):
        counts[f"n {kind}"] = counts.get(f"n {kind}", 0) + 1
        counts[f"ok {kind}"] = counts.get(f"ok {kind}", 0) + (misses == 0)
    printed = (by_cell(lesson.seen.truth.slots).flatten(0, 1)[lesson.cells] > 0).sum()
    counts["before"], counts["printed"] = float(known) / 2, float(printed)
    return spoken + DEEP_WEIGHT * deep, counts


def _spoken(
    pupil: Pupil, lesson: Lesson, given: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Logits, labels and number of answer at each token to be said; `given` is of images.

    Last, what the decoder knows half way up, and a layer later: (scenes, length, width).
    """
    core = pupil.model.model
    words = core.get_input_embeddings()(lesson.ids)
    here = (lesson.ids == pupil.model.config.image_token_id).unsqueeze(-1)
    joined = words.masked_scatter(here, given.to(words.dtype))
    unseen = torch.zeros(lesson.allowed.shape, device=joined.device)
    unseen = unseen.masked_fill(~lesson.allowed, -1e9)
    kept: list[Tensor] = []
    layers = core.language_model.layers[HALF_WAY - 1 : HALF_WAY + 1]
    hooks = [
        layer.register_forward_hook(lambda _module, _given, made: kept.append(made))
        for layer in layers
    ]
    try:
        hidden = core.language_model(
            inputs_embeds=joined,
            attention_mask=unseen,
            position_ids=lesson.positions,
            use_cache=False,
        ).last_hidden_state
    finally:
        for hook in hooks:
            hook.remove()
    said = lesson.labels != IGNORED
    logits = pupil.model.lm_head(hidden[said])
    return logits, lesson.labels[said], lesson.answers[said], kept[0], kept[1]


def _place_loss(pupil: Pupil, cells: Tensor) -> Tensor:
    """Each cell tells where it is: the encoder has no positions but what it finds out."""
    wanted = place_waves(round(cells.shape[1] ** 0.5), cells.device)
    told = pupil.place(cells).float()
    return functional.smooth_l1_loss(told, wanted.expand_as(told))
