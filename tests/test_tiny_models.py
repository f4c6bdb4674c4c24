"""The tiny models are what the other tests stand on: complete, loadable, repeatable, not blind."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import pytest
import torch
from PIL import Image
from tiny_models import FAMILIES, build, build_sharded, byte_level, wordpiece
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

CHATS_WITHOUT_TORCHVISION = [
    name
    for name, family in FAMILIES.items()
    if family.chat_template and not family.needs_torchvision
]
GREETING = "Hello, 世界 🙂"


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny model, built when it is first asked for."""
    return cache(lambda family: build(family, tmp_path_factory.mktemp("tiny") / family))


def question(picture: Image.Image | None = None) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": "what is it"}]
    return [{"role": "user", "content": [{"type": "image", "image": picture}, *parts]}]


@pytest.mark.parametrize("family", FAMILIES)
def test_folder_is_complete_and_small(family: str, folder_of: Callable[[str], Path]) -> None:
    folder = folder_of(family)
    assert AutoConfig.from_pretrained(folder).model_type == family
    model, loading = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not {kind: keys for kind, keys in loading.items() if keys}
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1_000_000
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for token in FAMILIES[family].stops.split():
        assert tokenizer.convert_tokens_to_ids(token) in model.generation_config.eos_token_id
    assert (tokenizer.chat_template is None) == (FAMILIES[family].chat_template is None)


@pytest.mark.parametrize("family", FAMILIES)
def test_same_seed_gives_same_files(
    family: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    first, again = folder_of(family), build(family, tmp_path)
    assert {file.name for file in first.iterdir()} == {file.name for file in again.iterdir()}
    for file in first.iterdir():
        assert file.read_bytes() == (again / file.name).read_bytes(), file.name


def test_another_seed_gives_other_weights(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    weights = build("llava", tmp_path, seed=1) / "model.safetensors"
    assert weights.read_bytes() != (folder_of("llava") / "model.safetensors").read_bytes()


def test_sharded_weights_are_the_same(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    folder = build_sharded("idefics3", tmp_path)
    assert len(list(folder.glob("model-*.safetensors"))) >= 2
    assert (folder / "model.safetensors.index.json").is_file()
    whole = AutoModelForImageTextToText.from_pretrained(folder_of("idefics3")).state_dict()
    sharded = AutoModelForImageTextToText.from_pretrained(folder).state_dict()
    assert all(torch.equal(whole[name], sharded[name]) for name in whole)


@pytest.mark.parametrize("family", FAMILIES)
def test_tokenizer_gives_text_back(family: str, folder_of: Callable[[str], Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder_of(family))
    back = tokenizer.decode(tokenizer(GREETING)["input_ids"], skip_special_tokens=True)
    if FAMILIES[family].tokenizer is wordpiece:
        assert back == "hello,"  # what BERT does not know is [UNK], which is skipped
    else:
        assert back == GREETING
    if FAMILIES[family].tokenizer is byte_level:
        bare = tokenizer(GREETING, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(bare) == GREETING


@pytest.mark.parametrize("family", CHATS_WITHOUT_TORCHVISION)
def test_another_picture_gives_another_answer(
    family: str, folder_of: Callable[[str], Path]
) -> None:
    processor = AutoProcessor.from_pretrained(folder_of(family))
    model = AutoModelForImageTextToText.from_pretrained(folder_of(family))

    def first_logits(picture: Image.Image) -> torch.Tensor:
        inputs = processor.apply_chat_template(
            question(picture),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            return model(**inputs).logits[0, -1]  # (V,)

    black = first_logits(Image.new("RGB", (80, 60)))
    striped = Image.linear_gradient("L").resize((80, 60)).convert("RGB")
    assert black.isfinite().all()
    assert (black - first_logits(striped)).abs().max() > 0.1


def rendered(folder: Path, messages: list[dict[str, Any]]) -> str:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize(
    ("family", "prompt"),
    [
        ("idefics3", "<|begin_of_text|>User:<image>what is it<end_of_utterance>\nAssistant:"),
        ("smolvlm", "<|im_start|>User:<image>what is it<end_of_utterance>\nAssistant:"),
        ("llava", "USER: <image>\nwhat is it ASSISTANT:"),
        ("llava_next", "[INST] <image>\nwhat is it [/INST]"),
        (
            "llava_onevision",
            "<|im_start|>user <image>\nwhat is it<|im_end|><|im_start|>assistant\n",
        ),
        (
            "qwen2_vl",
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
            "<|vision_start|><|image_pad|><|vision_end|>what is it<|im_end|>\n"
            "<|im_start|>assistant\n",
        ),
        (
            "internvl",
            "<|im_start|>user\n<IMG_CONTEXT>\nwhat is it<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "gemma3",
            "<bos><start_of_turn>user\n<start_of_image>what is it<end_of_turn>\n"
            "<start_of_turn>model\n",
        ),
        (
            "mllama",
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n<|image|>what is it"
            "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
    ],
)
def test_template_renders_as_published(
    family: str, prompt: str, folder_of: Callable[[str], Path]
) -> None:
    assert rendered(folder_of(family), question()) == prompt


def test_templates_keep_their_quirks(folder_of: Callable[[str], Path]) -> None:
    system = {"role": "system", "content": [{"type": "text", "text": "be brief"}]}
    with pytest.raises(jinja2.TemplateError, match="Only user and assistant"):
        rendered(folder_of("llava_next"), [system, *question()])
    with pytest.raises(jinja2.TemplateError, match="must alternate"):
        rendered(folder_of("gemma3"), [*question(), *question()])
    assert "user\nbe brief\n\n<start" in rendered(folder_of("gemma3"), [system, *question()])
    assert "hi" not in rendered(folder_of("smolvlm"), [{"role": "user", "content": "hi"}])
    assert "hi" in rendered(folder_of("qwen3_vl"), [{"role": "user", "content": "hi"}])
