"""How finely pictures are seen: what is left to the processor, what is not, and what it costs."""

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from clips_here import make
from conftest import DATA, FakeEngine, Run, draw
from PIL import Image

from vlmcli import apart, messages
from vlmcli.backends.local import chat, processors, prompt
from vlmcli.backends.local.processors import Processor
from vlmcli.backends.local.resolution import Sight, View, telling
from vlmcli.details import DETAILS
from vlmcli.errors import UsageError

Tiny = Callable[[str], Path]
Size = tuple[int, int]

FEW = ("-n", "4", "--dtype", "float32")
CHATTING = (
    "idefics3", "smolvlm", "llava", "llava_next", "llava_onevision", "qwen2_vl", "qwen2_5_vl",
    "qwen3_vl", "internvl", "gemma3", "gemma4", "mllama", "granite_docling",
)  # fmt: skip
PLAIN = ("got_ocr2", "paligemma", "florence2", "blip", "blip-2", "git", "pix2struct")
SIZES: tuple[Size, ...] = ((64, 64), (640, 480), (1100, 40))


# --- processors with the parameters that they are published with ---

PINPOINTS = [[384 * h, 384 * w] for h in range(1, 7) for w in range(1, 7)]
NEXT_PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
PUBLISHED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "SmolVLM": (
        "smolvlm",
        "SmolVLM",
        {"size": {"longest_edge": 2048}, "max_image_size": {"longest_edge": 512}},
    ),
    "SmolVLM2": (
        "idefics3",
        "Idefics3",
        {"size": {"longest_edge": 1536}, "max_image_size": {"longest_edge": 384}},
    ),
    "InternVL3": (
        "got_ocr2",
        "GotOcr2",
        {"size": {"height": 448, "width": 448}, "crop_to_patches": True, "max_patches": 12},
    ),
    "Granite Docling": ("granite_docling", "GraniteDocling", {}),
    "DeepSeek-OCR 2": ("deepseek_ocr2", "DeepseekOcr2", {}),
    "Gemma 4": ("gemma4", "Gemma4", {}),
    "LLaVA-NeXT": (
        "llava_next",
        "LlavaNext",
        {
            "size": {"shortest_edge": 336},
            "crop_size": {"height": 336, "width": 336},
            "image_grid_pinpoints": NEXT_PINPOINTS,
        },
    ),
    "LLaVA-OneVision": ("llava_onevision", "LlavaOnevision", {"image_grid_pinpoints": PINPOINTS}),
    "Llama 3.2": ("mllama", "Mllama", {"size": {"height": 560, "width": 560}}),
    "Qwen2.5-VL": ("qwen2_vl", "Qwen2VL", {"min_pixels": 3136, "max_pixels": 12845056}),
    "Qwen2-VL": ("qwen2_vl", "Qwen2VL", {}),
    "Pixtral": ("pixtral", "Pixtral", {}),
    "Idefics2": ("idefics2", "Idefics2", {"do_image_splitting": True}),
    "Pix2Struct": ("pix2struct", "Pix2Struct", {}),
    "CLIP": ("clip", "CLIP", {}),
    "SigLIP": ("siglip", "Siglip", {"size": {"height": 224, "width": 224}}),
}  # fmt: skip
FIXED = ("CLIP", "SigLIP")
NESTED = ("SmolVLM", "SmolVLM2", "Granite Docling", "Llama 3.2", "Idefics2", "Gemma 4")
"""They are given the pictures of each prompt in a list of their own."""


def published(name: str) -> Any:
    module, kind, parameters = PUBLISHED[name]
    found = import_module(f"transformers.models.{module}.image_processing_pil_{module}")
    return getattr(found, f"{kind}ImageProcessorPil")(**parameters)


def sized(name: str, size: Size, detail: str, **sight: Any) -> tuple[View, Image.Image]:
    """A picture as it is given to a processor."""
    view = View(name, published(name), None, Sight(detail, **sight))
    return view, view.picture(drawn(size), lambda *_: None)


def given(name: str, size: Size, detail: str, **sight: Any) -> Any:
    """What a processor makes of a picture."""
    view, picture = sized(name, size, detail, **sight)
    nested = [[picture]] if name in NESTED else [picture]
    told = view.options([picture.size])
    return view.image_processor(nested, return_tensors="pt", **told)


def cost(inputs: Any) -> int:
    """What a picture costs a model, in a measure of the processor's own."""
    for name in ("num_soft_tokens_per_image", "num_tiles"):
        if name in inputs:
            return int(torch.as_tensor(inputs[name]).sum())
    pixels = ("pixel_values", "pixel_values_local", "flattened_patches")
    counts = [_numbers(inputs[name]) for name in pixels if name in inputs]
    assert counts, [*inputs]
    return sum(counts)


def _numbers(pixels: Any) -> int:
    return int(pixels.numel()) if hasattr(pixels, "numel") else sum(map(_numbers, pixels))


def drawn(size: Size) -> Image.Image:
    """Another colour everywhere, so that no two resizings look alike."""
    steps = Image.linear_gradient("L").resize(size)
    rings = Image.radial_gradient("L").resize((size[0] // 9 + 1,) * 2).resize(size, 0)
    return Image.merge("RGB", (steps, steps.rotate(180), rings))


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_with_max_the_processor_is_left_to_itself(name: str) -> None:
    for size in SIZES:
        picture = drawn(size)
        view = View(name, published(name), None, Sight("max"))
        assert view.picture(picture, lambda *_: None) is picture
        assert view.options([size]) == {}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
@pytest.mark.parametrize("size", SIZES)
def test_more_detail_costs_more_or_the_same(name: str, size: Size) -> None:
    costs = [cost(given(name, size, detail)) for detail in DETAILS]
    assert costs == sorted(costs)
    on_cpu = cost(given(name, size, "auto", on_cpu=True))
    assert costs[0] <= on_cpu <= costs[1]
    if name in FIXED:
        assert len({*costs, on_cpu}) == 1


@pytest.mark.parametrize("name", sorted(PUBLISHED))
@pytest.mark.parametrize("size", [(64, 64), (40, 90), (300, 330)])
def test_a_small_picture_is_not_enlarged_but_to_the_least_that_can_be_seen(
    name: str, size: Size
) -> None:
    """What it costs is what a picture of a few pixels costs, or what its own pixels do."""
    least = cost(given(name, (28, 28), "low"))
    least = max(least, cost(given(name, size, "low")))
    assert cost(given(name, size, "auto")) <= least


@pytest.mark.parametrize("name", sorted(PUBLISHED))
@pytest.mark.parametrize("size", [(640, 480), (700, 700), (1920, 1080), (1000, 1300), (4000, 3000)])
def test_no_side_of_a_picture_is_stretched_by_more_than_rounding(name: str, size: Size) -> None:
    """Where it is more than one tile; a tile has but one shape."""
    found = sized(name, size, "auto")[1].size
    tile = {"SmolVLM": 512, "SmolVLM2": 384, "InternVL3": 448, "Granite Docling": 512}.get(name, 0)
    assert all(new <= max(1.08 * own, tile) for new, own in zip(found, size, strict=True)), found


@pytest.mark.parametrize(
    ("size", "tiles"),
    [
        ((64, 64), (17, 1, 1, 1, 1)),
        ((512, 512), (17, 1, 1, 1, 1)),
        ((300, 500), (13, 1, 1, 1, 1)),
        ((640, 480), (13, 1, 1, 1, 3)),
        ((1024, 512), (9, 1, 3, 3, 3)),
        ((1920, 1080), (13, 1, 5, 9, 9)),
        ((4000, 3000), (13, 1, 5, 13, 13)),
    ],
)
def test_smolvlm_sees_as_many_tiles_as_a_picture_fills(size: Size, tiles: tuple[int, ...]) -> None:
    """Those of max, low, auto on a CPU, auto elsewhere, and high; more than one have a whole."""
    ways = (("max", False), ("low", True), ("auto", True), ("auto", False), ("high", True))
    found = [given("SmolVLM", size, detail, on_cpu=cpu) for detail, cpu in ways]
    assert tuple(one["pixel_values"].shape[1] for one in found) == tiles


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("SmolVLM", (4000, 3000)),
        ("SmolVLM", (2000, 2500)),
        ("SmolVLM2", (3000, 1001)),
        ("InternVL3", (1800, 1350)),
        ("InternVL3", (896, 448)),
        ("Granite Docling", (1536, 1024)),
        ("Gemma 4", (1920, 1080)),
        ("Gemma 4", (801, 1203)),
        *((name, (1000, 700)) for name in ("LLaVA-NeXT", "LLaVA-OneVision", "Llama 3.2", *FIXED)),
        *((name, (1000, 700)) for name in ("Qwen2.5-VL", "Qwen2-VL", "Pixtral")),
        ("Idefics2", (1200, 700)),
    ],
)
def test_a_picture_that_would_not_be_enlarged_is_seen_as_before(name: str, size: Size) -> None:
    now, before = (given(name, size, detail) for detail in ("auto", "max"))
    assert now.keys() == before.keys()
    for key in now:
        assert torch.as_tensor(now[key]).equal(torch.as_tensor(before[key])), key


@pytest.mark.parametrize("size", [(4000, 3000), (1500, 6000)])
def test_a_cpu_sees_at_most_a_million_pixels(size: Size) -> None:
    for name in ("Qwen2.5-VL", "LLaVA-OneVision", "SmolVLM"):
        width, height = sized(name, size, "auto", on_cpu=True)[1].size
        assert 500_000 < width * height <= 1024 * 1024
    tiles = given("InternVL3", size, "auto", on_cpu=True)["pixel_values"].shape[0] - 1
    assert 3 <= tiles <= 5
    for name in ("Idefics2", "Pixtral"):  # which bring it down to that by themselves
        assert sized(name, size, "auto", on_cpu=True)[1].size == size


def test_lfm2_sees_one_view_or_as_many_tiles_as_a_picture_fills() -> None:
    """Its processor runs with torchvision alone; what it would be given is told here."""
    parameters = {"downsample_factor": 2, "encoder_patch_size": 16, "tile_size": 512}
    parameters |= {"min_tiles": 2, "max_tiles": 10, "max_image_tokens": 256}
    parameters |= {"max_pixels_tolerance": 2.0, "do_image_splitting": True}  # type: ignore[dict-item]
    processor = SimpleNamespace(**parameters, size={"height": 512, "width": 512})

    def size(own: Size, detail: str) -> Size:
        view = View("lfm2", processor, None, Sight(detail))
        return view.picture(drawn(own), lambda *_: None).size

    assert size((300, 500), "auto") == (300, 500)
    assert size((1920, 1080), "auto") == (2048, 1024)
    assert size((4000, 3000), "auto") in ((1536, 1536), (2048, 1024))
    width, height = size((1000, 1000), "low")
    assert width * height <= 512 * 512


def test_idefics2_counts_the_quarters_that_it_is_told_of() -> None:
    processor = published("Idefics2")
    view = View("idefics2", processor, None, Sight("auto"))
    told = view.options([(900, 900)])
    assert told == {"do_image_splitting": False}
    assert view.options([(900, 900), (1000, 200)]) == {"do_image_splitting": True}
    with telling(processor, told):
        assert processor.do_image_splitting is False
    assert processor.do_image_splitting is True


def test_idefics2_has_a_place_for_each_view_that_it_is_given(tiny: Tiny) -> None:
    """Its processor of text asks that of pictures for what this is told at each call."""
    from transformers import Idefics2Processor

    base = processors.load(tiny("smolvlm"), "smolvlm")
    combined = Idefics2Processor(
        published("Idefics2"), base.tokenizer, 64, chat_template=base.combined.chat_template
    )  # type: ignore[union-attr]
    pictures = combined.image_processor
    idefics2 = replace(base, name="idefics2", image_processor=pictures, combined=combined)

    def views(size: Size, detail: str, bound: int | None = None) -> tuple[int, int]:
        processor = replace(idefics2, sight=Sight(detail, bound))
        ready = prompt.prepare(processor, [messages.user("x", [read(size)])])
        return int(ready.inputs["pixel_values"].shape[1]), ready.image_tokens or 0

    assert views((300, 500), "max") == (5, 5 * 64)
    assert views((300, 500), "auto") == views((1200, 900), "low") == (1, 64)
    assert views((1200, 900), "auto") == (5, 5 * 64)
    assert views((1200, 900), "high", 100) == (1, 64)


def test_gemma_3_looks_at_no_extra_crops_of_what_is_to_be_cheap() -> None:
    module = import_module("transformers.models.gemma3.image_processing_pil_gemma3")
    processor = module.Gemma3ImageProcessorPil(do_pan_and_scan=True)

    def told(detail: str, **frames: bool) -> dict[str, Any]:
        return View("gemma3", processor, None, Sight(detail)).options([(900, 400)], **frames)

    assert told("low") == told("auto", frames=True) == {"do_pan_and_scan": False}
    assert told("auto") == told("high") == told("max") == {}


# --- what the models of each family are given ---


def read(size: Size) -> messages.Image:
    return messages.Image("a", drawn(size), "")


@pytest.mark.parametrize("family", CHATTING)
def test_with_max_a_model_is_given_what_transformers_gives_it(tiny: Tiny, family: str) -> None:
    processor = processors.load(tiny(family), family)
    seen = [read((64, 48)), read((90, 300))]
    talk = [messages.user("what?", seen)]
    ours = prompt.prepare(replace(processor, sight=Sight("max")), talk).inputs
    template = chat.template_of(processor)
    content = [{"type": "image", "image": one.pixels} for one in seen]
    theirs = processor.combined.apply_chat_template(  # type: ignore[union-attr]
        [{"role": "user", "content": [*content, {"type": "text", "text": "what?"}]}],
        chat_template=template,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.as_tensor(tensor).equal(torch.as_tensor(theirs[name])), name


@pytest.mark.parametrize("family", PLAIN)
def test_with_max_a_captioner_is_given_what_transformers_gives_it(tiny: Tiny, family: str) -> None:
    processor = replace(processors.load(tiny(family), family), sight=Sight("max"))
    words = messages.Text("Describe this image in one short sentence.", caption_style="short")
    image = read((64, 148))
    ready = prompt.prepare(processor, [messages.user(words, [image])])
    text = {"text": ready.text} if ready.text else {}
    theirs = processor.combined(images=[image.pixels], return_tensors="pt", **text)  # type: ignore[misc]
    for name, tensor in ready.inputs.items():
        assert torch.as_tensor(tensor).equal(torch.as_tensor(theirs[name])), name


@pytest.mark.parametrize("family", sorted({*CHATTING, *PLAIN}))
@pytest.mark.parametrize("detail", ["low", "high"])
def test_every_family_answers_at_other_details(
    run: Run, tiny: Tiny, tmp_path: Path, family: str, detail: str
) -> None:
    picture = draw(tmp_path / "a.png", (250, 170))
    asked = ("caption", picture, "-m", tiny(family), *FEW, "--json", "--detail", detail)
    code, out, err = run(*asked)
    assert (code, err) == (0, "")
    assert json.loads(out)["new_tokens"] >= 1


@pytest.mark.parametrize("family", ["smolvlm", "internvl", "gemma4", "qwen3_vl"])
def test_pictures_of_two_sizes_are_each_seen_in_their_own(tiny: Tiny, family: str) -> None:
    processor = processors.load(tiny(family), family)
    small, large = read((40, 50)), read((280, 330))

    def tokens(*seen: messages.Image) -> int:
        return prompt.prepare(processor, [messages.user("x", seen)]).image_tokens or 0

    assert tokens(small, large) == tokens(small) + tokens(large)
    assert tokens(large, small, small) == 2 * tokens(small) + tokens(large)


# --- a bound for each picture ---


def tokens_of(run: Run, *arguments: object) -> list[int]:
    code, out, err = run(*arguments, "--dry-run", "--json")
    assert (code, err) == (0, ""), err
    return [image["image_tokens"] for image in json.loads(out)["images"]]


@pytest.mark.parametrize("family", [*CHATTING, "got_ocr2", "paligemma"])
@pytest.mark.parametrize("allowed", [12, 7])
def test_a_picture_takes_no_more_tokens_than_are_allowed(
    run: Run, tiny: Tiny, tmp_path: Path, family: str, allowed: int
) -> None:
    """And where it can take no fewer, the message says how many it needs."""
    picture = draw(tmp_path / "a.png", (300, 210))
    asked = ("caption", picture, "-m", tiny(family), "--detail", "high", "--dry-run", "--json")
    for _ in range(3):  # the least may depend on the picture's shape
        code, out, err = run(*asked, "--max-image-tokens", allowed)
        if code == 0:
            break
        assert code in (2, 3) and err.count("\n") == 1, err
        needed = int(err.split("at least ")[1].split()[0])
        assert needed > allowed
        allowed = needed
    (image,) = json.loads(out)["images"]
    assert 1 <= image["image_tokens"] <= allowed


def test_a_bound_that_is_not_reached_changes_nothing(run: Run, tiny: Tiny, picture: Path) -> None:
    for detail in DETAILS:
        asked = ("caption", picture, "-m", tiny("smolvlm"), "--detail", detail)
        assert tokens_of(run, *asked) == tokens_of(run, *asked, "--max-image-tokens", 20)


def test_a_bound_that_no_picture_can_keep_is_told_before_the_weights_are_read(
    run: Run, tiny: Tiny, picture: Path
) -> None:
    folder = tiny("llava")
    code, out, err = run("ask", picture, "x", "-m", folder, "--max-image-tokens", 15)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--max-image-tokens 15" in err and "at least 16" in err and str(folder) in err


def test_a_picture_that_alone_cannot_keep_the_bound_does_not_end_a_bulk_run(
    run: Run, tiny: Tiny, tmp_path: Path
) -> None:
    """What LLaVA-NeXT can make of a picture depends on its shape."""
    wide, square = draw(tmp_path / "wide.png", (300, 210)), draw(tmp_path / "square.png", (60, 60))
    asked = ("-m", tiny("llava_next"), *FEW, "--max-image-tokens", 44)
    bound = ("-m", tiny("llava_next"), *FEW, "--max-image-tokens", 40)
    assert run("caption", wide, square, "-o", tmp_path / "a.jsonl", *asked)[0] == 0
    code, _, err = run("caption", wide, square, "-o", tmp_path / "b.jsonl", *bound)
    assert code == 3 and "1 done, 0 skipped, 1 failed" in err
    assert f"{wide}: --max-image-tokens 40" in err


def test_a_picture_that_the_processor_refuses_is_refused_with_a_bound_too(
    run: Run, tiny: Tiny, tmp_path: Path
) -> None:
    thread = draw(tmp_path / "thread.png", (900, 4))
    asked = ("caption", thread, "-m", tiny("qwen3_vl"), "--max-image-tokens", 12)
    code, out, err = run(*asked)
    assert (code, out, err.count("\n")) == (3, "", 1) and str(thread) in err


def test_pictures_without_tokens_have_none_to_bound(run: Run, tiny: Tiny, picture: Path) -> None:
    asked = ("caption", picture, "-m", tiny("blip"), *FEW, "--max-image-tokens", 1)
    assert run(*asked)[0] == 0


def test_max_is_brought_down_to_the_bound(run: Run, tiny: Tiny, picture: Path) -> None:
    asked = ("caption", picture, "-m", tiny("smolvlm"), "--detail", "max")
    assert tokens_of(run, *asked) == [20]
    assert tokens_of(run, *asked, "--max-image-tokens", 19)[0] <= 19


# --- asked for ---


def test_another_detail_is_refused_with_the_four_that_there_are(
    run: Run, fake_engine: FakeEngine, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run("caption", picture, "--detail", "fine")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--detail: 'fine'" in err and "low, auto, high, max" in err
    assert fake_engine.loads == []
    monkeypatch.setenv("VLM_DETAIL", "ultra")
    code, _, err = run("caption", picture)
    assert code == 2 and "VLM_DETAIL: 'ultra'" in err


@pytest.mark.parametrize(
    "command",
    [
        ("caption", "PICTURE"),
        ("ask", "PICTURE", "what?"),
        ("chat", "PICTURE"),
        ("grep", "red", "PICTURE"),
        ("video", "CLIP", "what?"),
    ],
    ids=lambda command: command[0],
)
def test_every_command_that_loads_a_model_sees_as_finely_as_is_asked(
    run: Run, fake_engine: FakeEngine, picture: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    clip = make(tmp_path / "clip.mp4", 30)
    places = {"PICTURE": picture, "CLIP": clip}
    named = [places.get(one, one) for one in command]
    asked = ("--detail", "LOW", "--max-image-tokens", 99)
    code, _, err = run(*named, *asked, stdin=b"what?\n")
    assert code in (0, 1), err
    (loaded,) = fake_engine.loads
    assert (loaded.detail, loaded.max_image_tokens) == ("low", 99)


def test_the_detail_decides_what_a_dry_run_and_the_statistics_tell(
    run: Run, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = draw(tmp_path / "a.png", (130, 60))
    asked = ("ask", picture, "what?", "-m", tiny("smolvlm"))
    _, out, _ = run(*asked, "--dry-run", "--json")
    (image,) = json.loads(out)["images"]
    assert (image["tiles"], image["image_tokens"], image["resized"]) == (3, 12, [56, 56])
    assert tokens_of(run, *asked, "--detail", "max") == [12]
    assert tokens_of(run, *asked, "--detail", "low") == [4]
    monkeypatch.setenv("VLM_DETAIL", "low")
    code, _, err = run(*asked, *FEW, "--stats")
    assert code == 0 and "4 image" in err


def test_a_chat_cannot_change_what_is_settled_when_its_model_loads(say: Any) -> None:
    _, _, err = say("/set detail low")
    assert "settled when a model loads" in err and "--detail" in err


# --- records ---


def test_a_record_has_what_was_asked_and_is_replayed_so(
    run: Run, tiny: Tiny, tmp_path: Path
) -> None:
    picture, file = draw(tmp_path / "a.png", (130, 140)), tmp_path / "answer.json"
    asked = ("ask", picture, "what?", "-m", tiny("smolvlm"), *FEW, "--json")
    for detail in ("low", "max"):
        code, out, err = run(*asked, "--detail", detail, "--max-image-tokens", 100)
        assert code == 0, err
        file.write_text(out)
        record = json.loads(out)
        assert record["settings"] == {
            "max_tokens": 4, "detail": detail, "max_image_tokens": 100
        }  # fmt: skip
        code, out, err = run("replay", file, "--json")
        assert (code, json.loads(out)["same"]) == (0, True)
        assert json.loads(out)["image_tokens"] == record["image_tokens"]


def test_a_replay_sees_as_is_typed_and_not_as_is_usual(
    run: Run, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, file = draw(tmp_path / "a.png", (130, 140)), tmp_path / "answer.json"
    _, out, _ = run("ask", picture, "what?", "-m", tiny("smolvlm"), *FEW, "--json")
    file.write_text(out)

    monkeypatch.setenv("VLM_DETAIL", "low")  # a habit; the record was made without
    code, out, err = run("replay", file)
    assert (code, out) == (0, f"{picture}\tsame\n"), err

    code, out, err = run("replay", file, "--detail", "low")
    assert (code, out) == (1, f"{picture}\tdifferent\n")
    assert "--detail was auto and is low" in err


def test_records_of_two_details_are_each_answered_by_their_own_model(
    run: Run, fake_engine: FakeEngine, tmp_path: Path, picture: Path
) -> None:
    lines = []
    for detail in ("low", "high", "low"):
        code, out, _ = run("ask", picture, "what?", "--json", "--detail", detail)
        assert code == 0
        lines.append(out)
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(lines))
    fake_engine.loads.clear()

    code, out, err = run("replay", file)
    assert (code, out) == (0, f"{picture}\tsame\n" * 3), err
    assert [one.detail for one in fake_engine.loads] == ["low", "high"]


def test_a_record_of_a_search_says_how_finely_it_looked(
    run: Run, fake_engine: FakeEngine, picture: Path
) -> None:
    _, out, _ = run("grep", "red", picture, "--json", "--detail", "low")
    assert json.loads(out)["settings"] == {"detail": "low"}
    assert "settings" not in json.loads(run("grep", "red", picture, "--json")[1])


def test_a_bulk_run_asks_again_when_the_detail_is_another(
    run: Run, fake_engine: FakeEngine, picture: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.jsonl"
    for detail, done in (("auto", 1), ("auto", 0), ("low", 1), ("low", 0), ("auto", 0)):
        code, _, err = run("caption", picture, "-o", kept, "--detail", detail)
        assert code == 0 and f"{done} done" in err


def test_models_are_compared_at_the_detail_that_is_asked(
    run: Run, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process: another for each model costs seconds, and changes nothing of this."""
    monkeypatch.setattr(apart, "iterate", lambda name, work, *arguments: work(*arguments))
    picture = draw(tmp_path / "a.png", (130, 140))
    models = ("-m", tiny("smolvlm"), "-m", tiny("idefics3"))
    for detail, tokens in (("low", 4), ("max", 20)):
        asked = ("compare", picture, "what?", *models, *FEW, "--json", "--detail", detail)
        code, out, err = run(*asked)
        assert code == 0, err
        records = [json.loads(line) for line in out.splitlines()]
        assert [one["image_tokens"] for one in records] == [tokens] * 2
        assert [one["settings"]["detail"] for one in records] == [detail] * 2


# --- conversations and clips ---


@pytest.mark.parametrize("family", ["smolvlm", "qwen3_vl", "internvl"])
@pytest.mark.parametrize("detail", ["low", "auto"])
def test_a_picture_is_read_once_in_a_conversation_at_any_detail(
    run: Run, tiny: Tiny, tmp_path: Path, family: str, detail: str
) -> None:
    """Also when a picture of another size joins it."""
    first, other = draw(tmp_path / "a.png", (250, 170)), draw(tmp_path / "b.png", (40, 50))
    lines = f"what?\n/image {other}\nand this?\n".encode()
    options = ("-m", tiny(family), *FEW, "--json", "--detail", detail)
    code, out, err = run("chat", first, *options, stdin=lines)
    assert code == 0, err
    one, two = (json.loads(line) for line in out.splitlines())
    assert two["cached_tokens"] >= one["image_tokens"]
    assert two["image_tokens"] > one["image_tokens"]


@pytest.mark.parametrize("family", ["smolvlm", "qwen2_5_vl", "internvl", "llava"])
def test_each_frame_of_a_clip_costs_what_the_detail_says(
    run: Run, tiny: Tiny, tmp_path: Path, family: str
) -> None:
    clip = make(tmp_path / "clip.mp4", 60)
    asked = ("video", clip, "what?", "-m", tiny(family), *FEW, "--max-frames", 3, "--json")

    def tokens(*more: object) -> int:
        code, out, err = run(*asked, *more)
        assert code == 0, err
        return int(json.loads(out)["image_tokens"])

    usual, low, high = tokens(), tokens("--detail", "low"), tokens("--detail", "high")
    assert usual == low <= high <= tokens("--detail", "max")
    if family in ("smolvlm", "internvl"):
        assert high > usual == 3 * 4
    bound = 16 if family == "llava" else 5
    assert tokens("--detail", "high", "--max-image-tokens", bound) <= 3 * bound


def test_a_picture_beside_a_clip_is_seen_in_its_own_pixels(tiny: Tiny) -> None:
    processor: Processor = processors.load(tiny("smolvlm"), "smolvlm")
    clip = messages.Video("c", (drawn((200, 150)),) * 2, (0.0, 1.0), 2.0)

    def tokens(*seen: messages.Image | messages.Video) -> int:
        return prompt.prepare(processor, [messages.user("x", seen)]).image_tokens or 0

    assert tokens(clip) == 2 * 4
    assert tokens(clip, read((200, 150))) == tokens(clip) + tokens(read((200, 150)))
    assert tokens(read((200, 150))) == 20


def test_what_no_size_can_keep_is_refused_by_name() -> None:
    view = View("a model", published("CLIP"), None, Sight("auto", 500))
    with pytest.raises(UsageError, match="a model takes at least 576"):
        view.picture(drawn((700, 500)), lambda *_: 576)


@pytest.mark.slow
def test_the_model_inside_answers_as_well_at_any_detail(run: Run) -> None:
    answers = {
        run("ask", DATA / "chart.png", "highest bar?", "-m", "builtin", "--detail", detail)[1]
        for detail in DETAILS
    }
    assert len(answers) == 1
