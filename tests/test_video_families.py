"""Clips in front of the tiny models of each family: as pictures in order, and as a video."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clips_here import drawn, make
from conftest import Run
from PIL import Image
from transformers.utils import is_torchvision_available

from vlmcli import messages, wording
from vlmcli.backends.local import processors, prompt
from vlmcli.messages import Video

Tiny = Callable[[str], Path]
FAMILIES = ("smolvlm", "qwen2_5_vl", "qwen3_vl", "llava_onevision", "internvl", "llava", "idefics3")
FEW = ("-n", "4", "--dtype", "float32", "--max-frames", "4")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make(tmp_path / "clip.mp4", 100)


def shuffled(order: tuple[int, ...]) -> Video:
    pictures = [Image.fromarray(drawn(5 * i, ground=(40 * i, 9, 99))) for i in range(4)]
    return Video("clip", tuple(pictures[i] for i in order), (0.5, 1.5, 2.5, 3.5), 4.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_frames_stand_in_order_with_their_times(
    run: Run, tiny: Tiny, clip: Path, family: str
) -> None:
    code, out, err = run("video", clip, "what?", "-m", tiny(family), *FEW, "--dry-run")
    assert (code, err) == (0, "")
    shown = json.loads(out)
    assert shown["clips"][0]["frames"] == [0.5, 1.5, 2.5, 3.5]
    text = shown["prompt"]
    assert re.findall(r"t=[\d.]+s", text) == ["t=0.5s", "t=1.5s", "t=2.5s", "t=3.5s"]
    assert text.count(wording.SEQUENCE) == 1
    assert text.index(wording.SEQUENCE) < text.index("t=0.5s") < text.index("what?")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_answers_about_a_clip_having_seen_every_frame_once(
    run: Run, tiny: Tiny, clip: Path, family: str
) -> None:
    code, out, err = run("video", clip, "what?", "-m", tiny(family), *FEW, "--json")
    assert (code, err) == (0, "")
    answer = json.loads(out)
    assert 1 <= answer["new_tokens"] <= 4
    two = run("video", clip, "what?", "-m", tiny(family), *FEW, "--json", "--max-frames", 2)[1]
    assert answer["image_tokens"] == 2 * json.loads(two)["image_tokens"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_order_of_the_frames_reaches_the_model(tiny: Tiny, family: str) -> None:
    processor = processors.load(tiny(family), family)
    there, back = (
        prompt.prepare(processor, [messages.user("what?", [shuffled(order)])]).inputs
        for order in ((0, 1, 2, 3), (3, 2, 1, 0))
    )
    assert there["pixel_values"].shape == back["pixel_values"].shape
    assert there["pixel_values"].ne(back["pixel_values"]).any()
    assert there["input_ids"].equal(back["input_ids"])  # the times are those of the places


def test_a_captioner_that_sees_one_picture_says_so(run: Run, tiny: Tiny, clip: Path) -> None:
    code, out, err = run("video", clip, "what?", "-m", tiny("blip"), "-n", "4")
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert "sees one picture at a time" in err
    assert run("video", clip, "what?", "-m", tiny("blip"), "-n", 4, "--max-frames", 1)[0] == 0


def test_the_number_of_frames_is_what_the_model_was_made_for(
    run: Run, tiny: Tiny, tmp_path: Path
) -> None:
    clip = make(tmp_path / "clip.mp4", 500)

    def frames(**settings: Any) -> int:
        folder = tmp_path / f"model{len(list(tmp_path.iterdir()))}"
        shutil.copytree(tiny("llava"), folder)
        if context := settings.pop("context", None):
            config = json.loads((folder / "config.json").read_text())
            config["text_config"]["max_position_embeddings"] = context
            (folder / "config.json").write_text(json.dumps(config))
        if settings:
            (folder / "video_preprocessor_config.json").write_text(json.dumps(settings))
        code, out, err = run("video", clip, "what?", "-m", folder, "--dry-run")
        assert code == 0, err
        return len(json.loads(out)["clips"][0]["frames"])

    assert frames() == 16
    assert frames(num_frames=8) == 8
    assert frames(video_sampling={"max_frames": 64, "fps": 1}) == 20
    assert frames(fps=0.2) == 4
    few = frames(context=1200)  # of which the question and the answer take their part
    assert 1 <= few < 10


_PLACES = {
    "qwen2_vl": "<|vision_start|><|video_pad|><|vision_end|>",
    "qwen2_5_vl": "<|vision_start|><|video_pad|><|vision_end|>",
    "qwen3_vl": "<|vision_start|><|video_pad|><|vision_end|>",
    "internvl": "<video>",
    "smolvlm": "<video>",
}


@pytest.mark.skipif(
    not is_torchvision_available(),
    reason="video processors need a torchvision that works, and there is none for this torch",
)
@pytest.mark.parametrize("family", sorted(_PLACES))
def test_a_model_with_a_video_input_gets_a_video(
    run: Run, tiny: Tiny, clip: Path, tmp_path: Path, family: str
) -> None:
    """The templates of the tiny models know no video; those of the published ones do."""
    folder = tmp_path / family
    shutil.copytree(tiny(family), folder)
    template = folder / "chat_template.jinja"
    image = "{% elif part['type'] == 'image' %}"
    video = "{% elif part['type'] == 'video' %}"
    text = template.read_text()
    assert image in text
    template.write_text(text.replace(image, f"{video}{_PLACES[family]}{image}"))

    code, out, err = run("video", clip, "what?", "-m", folder, *FEW, "--dry-run")
    assert (code, err) == (0, "")
    shown = json.loads(out)
    assert shown["prompt"].count(_PLACES[family]) == 1 and wording.SEQUENCE not in shown["prompt"]
    assert shown["clips"][0]["image_tokens"] >= 4
    code, out, err = run("video", clip, "what?", "-m", folder, *FEW, "--json")
    assert (code, err) == (0, "") and json.loads(out)["new_tokens"] >= 1
