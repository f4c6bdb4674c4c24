"""Tiny vision-language models with random weights, as complete folders, without any download.

Each row of `FAMILIES` is what a published checkpoint of that family looks like, shrunk: the same
keys, the same special tokens, the same kind of tokenizer, a chat template that renders alike. Only
the vocabulary, the layers and the pictures are small. The answers are noise in printable ASCII:
always the same for the same seed, and (nearly always) another one for another picture.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, WordPiece
from tokenizers.processors import TemplateProcessing

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from transformers import PreTrainedModel

# Each is one token of the tiny vocabularies; any other word is spelt with letters or bytes.
WORDS = "the a is of and in on picture image cat dog red blue green two what there color yes no"

# Where a row needs an id, it names the token. Ids past the last token are there because published
# embeddings, too, have more rows than the tokenizer has tokens.
VOCABULARY_END = "(first id without a token)"
PADDED_END = "(first id without an embedding)"

_ID_KEYS = ("_token_id", "_token_index", "vocab_size", "vocab_size_per_layer_input")
_STANDARD_KEYS = {f"{name}_token" for name in ("bos", "eos", "pad", "unk", "cls", "sep", "mask")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One model family: what its files say, before the tokens have ids.

    `tokens`, `plain` and `stops` hold tokens separated by one space each.
    """

    config: dict[str, Any]
    images: dict[str, Any]  # preprocessor_config.json
    processor: dict[str, Any] = field(default_factory=dict)  # empty: the family has no such file
    tokenizer: Callable[[], Tokenizer]
    special: dict[str, str]  # as in tokenizer_config.json: bos_token, eos_token, image_token, …
    tokens: str = ""  # the other special tokens, in the order of their ids
    plain: str = ""  # added tokens that are text: decoding keeps them when it skips special ones
    wraps: str = "$A"  # what the tokenizer puts around a text, as TemplateProcessing writes it
    stops: str  # the tokens that end an answer
    chat_template: str | None = None
    needs_torchvision: bool = False  # AutoProcessor raises without it


def build(family: str, folder: Path, *, seed: int = 0) -> Path:
    """Write the tiny model of `family` into `folder` (made if needed), and return `folder`."""
    return write(FAMILIES[family], folder, seed, max_shard_bytes=5_000_000)


def build_sharded(family: str, folder: Path, *, seed: int = 0) -> Path:
    """As `build`, with the weights in several files and a model.safetensors.index.json."""
    return write(FAMILIES[family], folder, seed, max_shard_bytes=100_000)


def write(family: Family, folder: Path, seed: int, max_shard_bytes: int) -> Path:
    """As `build`, of a family that need not be in the table."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(family)
    ids = _ids(tokenizer)
    model = _model(family, ids, seed)
    with _no_progress_bars():
        model.save_pretrained(folder, max_shard_size=max_shard_bytes)
    tokenizer.save(str(folder / "tokenizer.json"))
    files = _processing_files(family)
    files["generation_config.json"] = {
        **_standard_ids(family, ids),
        "eos_token_id": [ids[token] for token in family.stops.split()],
        "decoder_start_token_id": model.generation_config.decoder_start_token_id,
    }
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content, indent=1), encoding="utf-8")
    if family.chat_template is not None:
        (folder / "chat_template.jinja").write_text(family.chat_template, encoding="utf-8")
    return folder


def _processing_files(family: Family) -> dict[str, dict[str, Any]]:
    files = {
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": 4096,
            "model_input_names": ["input_ids", "attention_mask"],
            "clean_up_tokenization_spaces": False,
            **{k: v for k, v in family.special.items() if k in _STANDARD_KEYS},
            "extra_special_tokens": {
                k: v for k, v in family.special.items() if k not in _STANDARD_KEYS
            },
        },
        "preprocessor_config.json": family.images,
    }
    if family.processor:
        files["processor_config.json"] = family.processor
        own_class = {"processor_class": family.processor["processor_class"]}
        files["preprocessor_config.json"] = family.images | own_class
    return files


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keeps stderr clean for the tests that read it."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


# --- weights ---


def _model(family: Family, ids: Mapping[str, int], seed: int) -> "PreTrainedModel":
    # Imported here: seconds, which a test that only reads FAMILIES need not spend.
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = _with_ids(family.config, ids)
    text = config.get("text_config") or config.get("decoder") or config
    for key, value in _standard_ids(family, ids).items():
        text.setdefault(key, value)
    # A tied head repeats the last token of the question for ever.
    config["tie_word_embeddings"] = text["tie_word_embeddings"] = False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(**config))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _randomize(name, parameter, generator)
        head = getattr(model, "text_decoder", model).get_output_embeddings()  # blip hides its own
        head.weight[_unprintable(family, ids, len(head.weight))] = 0
    return model


def _randomize(name: str, parameter: "Tensor", generator: "Generator") -> None:
    """Weights large enough that the answer depends on every part of the question."""
    if parameter.ndim >= 2:
        parameter.normal_(0, 2 * parameter[0].numel() ** -0.5, generator=generator)
    elif name.endswith("gate"):
        parameter.fill_(1)  # mllama starts with its eyes shut: tanh(0) times what it sees


def _unprintable(family: Family, ids: Mapping[str, int], size: int) -> list[int]:
    """Ids that the random model shall not say: markers, odd bytes, and those without a token."""
    letters = {*"▁Ġ", *map(chr, range(0x21, 0x7F))}
    markers = (">", "]")
    words = (t for t in ids if set(t) <= letters and (len(t) == 1 or not t.endswith(markers)))
    said = {ids[token] for token in (*words, *family.stops.split())}
    return [i for i in range(size) if i not in said]


def _standard_ids(family: Family, ids: Mapping[str, int]) -> dict[str, int | None]:
    special = family.special  # BERT has no bos and no eos, but its models start and end with these
    bos = special.get("bos_token", special.get("cls_token"))
    eos = special.get("eos_token", special.get("sep_token"))
    tokens = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": special["pad_token"]}
    return {key: None if token is None else ids[token] for key, token in tokens.items()}


def _with_ids(value: Any, ids: Mapping[str, int], key: str = "") -> Any:
    """A copy of `value` with ids in the place of the names of tokens."""
    if isinstance(value, dict):
        return {k: _with_ids(v, ids, k) for k, v in value.items()}
    return ids[value] if isinstance(value, str) and key.endswith(_ID_KEYS) else value


# --- tokenizers ---


def _tokenizer(family: Family) -> Tokenizer:
    tokenizer = family.tokenizer()
    for token in dict.fromkeys([*family.special.values(), *family.tokens.split()]):
        # llava has one special token that is looked for only after normalization.
        normalized = token == "<pad>" and family.config["model_type"] == "llava"
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=normalized)])
    for token in filter(None, family.plain.split(" ")):
        tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])
    around = [(t, tokenizer.token_to_id(t)) for t in family.wraps.split() if t != "$A"]
    if around:
        tokenizer.post_processor = TemplateProcessing(single=family.wraps, special_tokens=around)
    return tokenizer


def _ids(tokenizer: Tokenizer) -> dict[str, int]:
    size = tokenizer.get_vocab_size()
    return tokenizer.get_vocab() | {VOCABULARY_END: size, PADDED_END: size // 8 * 8 + 16}


def byte_level() -> Tokenizer:
    """GPT-2's kind (Qwen, Llama 3, SmolLM, BART, OPT): a text is a row of bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(*_grown(alphabet, "Ġ")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def sentencepiece() -> Tokenizer:
    """Gemma's kind: spaces are ▁, and what no piece spells is spelt with the 256 tokens <0xNN>."""
    tokenizer = Tokenizer(_pieces_and_bytes())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    tokenizer.decoder = decoders.Sequence(_BYTES_TO_TEXT)
    return tokenizer


def sentencepiece_prefixed() -> Tokenizer:
    """Llama 2's kind: the same, but it normalizes, and puts a space before the text."""
    tokenizer = Tokenizer(_pieces_and_bytes())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence([*_BYTES_TO_TEXT, decoders.Strip(" ", 1, 0)])
    return tokenizer


def wordpiece() -> Tokenizer:
    """BERT's kind, uncased: text comes back in lower case, a word with a new letter as [UNK]."""
    letters = [chr(code) for code in range(0x21, 0x7F) if not chr(code).isupper()]
    pieces = [
        *letters,
        *(f"##{letter}" for letter in letters),
        *(w for w in WORDS.split() if len(w) > 1),
    ]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]
    tokenizer = Tokenizer(WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


_BYTES_TO_TEXT = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]


def _pieces_and_bytes() -> BPE:
    alphabet = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    alphabet += [chr(code) for code in range(0x21, 0x7F)]
    vocabulary, merges = _grown(alphabet, "▁")
    return BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)


def _grown(alphabet: Sequence[str], space: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A BPE vocabulary and its merges, in which every word of WORDS grows letter by letter."""
    merges: dict[tuple[str, str], None] = {}  # a set that keeps its order
    for word in WORDS.split():
        spaced = space + word
        for end in range(1, len(spaced)):
            merges[spaced[:end], spaced[end]] = None
    tokens = [*alphabet, *(left + right for left, right in merges)]
    return {token: i for i, token in enumerate(tokens)}, list(merges)


# --- chat templates ---
# Jinja drops the line end after a block, hence the {{ '\n' }} here and there.

_ASKS_ANSWER = "{% if add_generation_prompt %}@{% endif %}"


def _content(image: str) -> str:
    """The message's text and pictures in their order; the content may also be just a text."""
    return (
        "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
        "{% for part in message['content'] %}"
        "{% if part['type'] == 'text' %}{{ part['text'] }}"
        "{% elif part['type'] == 'image' %}{{ 'IMAGE' }}{% endif %}{% endfor %}{% endif %}"
    ).replace("'IMAGE'", repr(image))


def _turns(start: str, image: str, end: str, *, first: str = "", answer: str = "assistant") -> str:
    """A template whose turns are all alike: `start` (with @ for the role), the content, `end`."""
    turn = start.replace("@", "{{ message['role'] }}") + _content(image) + end
    ask = _ASKS_ANSWER.replace("@", start.replace("@", answer))
    return first + "{% for message in messages %}" + turn + "{% endfor %}" + ask


def _chatml(image: str, first: str = "") -> str:
    return _turns("<|im_start|>@\n", image, "<|im_end|>\n", first=first)


_QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
_QWEN_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>{{ '\n' }}{% endif %}"
)
# Text is lost unless it is a part in a list: so it is with the published template.
_IDEFICS_TURNS = (
    "{% for message in messages %}{{ message['role'] | capitalize }}"
    "{{ ':' if message['content'][0]['type'] == 'image' else ': ' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}<image>{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}" + _ASKS_ANSWER.replace("@", "Assistant:")
)
_IMAGES = "{% for part in message['content'] if part['type'] == 'image' %}<image>@{% endfor %}"
_TEXTS = "{% for part in message['content'] if part['type'] == 'text' %}@{% endfor %}"
_IMAGES_THEN_TEXTS = _IMAGES.replace("@", "\n") + _TEXTS.replace("@", "{{ part['text'] }} ")
_LLAVA = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'] | upper }}: {% endif %}"
    + (_IMAGES_THEN_TEXTS + "{% endfor %}" + _ASKS_ANSWER.replace("@", "ASSISTANT:"))
)
_LLAVA_MISTRAL = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    + ("[INST] " + _IMAGES_THEN_TEXTS + "[/INST]{% elif message['role'] == 'assistant' %} ")
    + _TEXTS.replace("@", "{{ part['text'] }}")
    + "</s>{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}"
    "{% endif %}{% endfor %}"
)
_LLAVA_QWEN = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    + (_IMAGES.replace("@", "") + _TEXTS.replace("@", "{{ '\n' + part['text'] }}"))
    + ("<|im_end|>{% endfor %}" + _ASKS_ANSWER.replace("@", "<|im_start|>assistant\n"))
)
_GEMMA3 = (
    "{{ bos_token }}{% set system = '' %}{% set turns = messages %}"
    "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}"
    "{% set content = messages[0]['content'] %}"
    "{% set system = (content if content is string else content[0]['text']) + '\n\n' %}{% endif %}"
    "{% for message in turns %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{% endif %}<start_of_turn>"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ system if loop.first else '' }}"
    + (_content("<start_of_image>") + "<end_of_turn>\n{% endfor %}")
    + _ASKS_ANSWER.replace("@", "<start_of_turn>model\n")
)
_GEMMA4 = _turns("<|turn>@\n", "<|image|>", "<turn|>\n", first="{{ bos_token }}", answer="model")
_LLAMA3 = _turns(
    "<|start_header_id|>@<|end_header_id|>\n\n", "<|image|>", "<|eot_id|>", first="{{ bos_token }}"
)
_GRANITE = _turns("<|start_of_role|>@<|end_of_role|>", "<image>", "<|end_of_text|>\n")


# --- what the rows share ---


def _config(model_type: str, **fields: Any) -> dict[str, Any]:
    return {"model_type": model_type, **fields}


def _towers(
    model_type: str, text: dict[str, Any], vision: dict[str, Any], **fields: Any
) -> dict[str, Any]:
    return {"model_type": model_type, "text_config": text, "vision_config": vision, **fields}


def _text(model_type: str, **changes: Any) -> dict[str, Any]:
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    sizes |= {"hidden_size": 32, "intermediate_size": 64, "head_dim": 8}
    sizes |= {"max_position_embeddings": 4096}
    return {"model_type": model_type, "vocab_size": PADDED_END, **sizes, **changes}


def _learned_positions(model_type: str, **changes: Any) -> dict[str, Any]:
    return _text(model_type, max_position_embeddings=512, encoder_hidden_size=32, **changes)


def _vision(model_type: str, **changes: Any) -> dict[str, Any]:
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32}
    sizes |= {"intermediate_size": 64, "projection_dim": 32, "image_size": 56, "patch_size": 14}
    return {"model_type": model_type, **sizes, **changes}


def _qwen_vision(model_type: str, **changes: Any) -> dict[str, Any]:
    sizes = {"depth": 2, "hidden_size": 32, "num_heads": 4, "patch_size": 14}
    sizes |= {"spatial_merge_size": 2, "temporal_patch_size": 2}
    return {"model_type": model_type, **sizes, **changes}


def _images(kind: str, **changes: Any) -> dict[str, Any]:
    steps = ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb")
    return {
        "image_processor_type": f"{kind}ImageProcessor",
        "size": {"height": 56, "width": 56},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        **dict.fromkeys(steps, True),
        **changes,
    }


def _processor(kind: str, **fields: Any) -> dict[str, Any]:
    return {"processor_class": f"{kind}Processor", **fields}


def _special(**tokens: str) -> dict[str, str]:
    return {f"{name}_token": token for name, token in tokens.items()}


_ROPE = {"rope_type": "default", "rope_theta": 10000.0}


def _qwen(
    name: str, processor_class: str, vision: dict[str, Any], chat_template: str, plain: str
) -> Family:
    mrope = _ROPE | {"mrope_section": [2, 1, 1]}
    return Family(
        config=_towers(
            name,
            _text(f"{name}_text", rope_parameters=mrope),
            vision,
            image_token_id="<|image_pad|>",
            video_token_id="<|video_pad|>",
            vision_start_token_id="<|vision_start|>",
            vision_end_token_id="<|vision_end|>",
        ),
        images=_images("Qwen2VL", patch_size=14, temporal_patch_size=2, merge_size=2)
        | {"size": {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}}
        | {"processor_class": processor_class},
        tokenizer=byte_level,
        special=_special(eos="<|im_end|>", pad="<|endoftext|>"),
        tokens="<|im_start|> <|object_ref_start|> <|object_ref_end|> <|vision_start|> "
        "<|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>",
        plain=plain,
        stops="<|im_end|> <|endoftext|>",
        chat_template=chat_template,
        needs_torchvision=True,
    )


_TILES = " ".join(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
_TILED = f"<fake_token_around_image> <image> <global-img> {_TILES}"
_TILING = {
    "size": {"longest_edge": 112},
    "max_image_size": {"longest_edge": 56},
    "do_image_splitting": True,
    "do_pad": True,
    "resample": 1,
}
_SHORT_EDGE = {
    "size": {"shortest_edge": 56},
    "crop_size": {"height": 56, "width": 56},
    "do_center_crop": True,
}
_PINPOINTS = [[56, 112], [112, 56]]
_CLIP_GRID = {
    "patch_size": 14,
    "vision_feature_select_strategy": "default",
    "num_additional_image_tokens": 1,
}
_NO_MULTIPLIERS = {  # Granite's own are for trained weights: they would hide picture and text
    "embedding_multiplier": 1.0,
    "attention_multiplier": 0.35,
    "residual_multiplier": 1.0,
    "logits_scaling": 1.0,
}
_LLAMA = _special(bos="<s>", eos="</s>", pad="<pad>", unk="<unk>")
_GEMMA = _special(bos="<bos>", eos="<eos>", pad="<pad>", unk="<unk>")
_GEMMA_IMAGE = _special(image="<image_soft_token>", boi="<start_of_image>", eoi="<end_of_image>")
_BERT = _special(cls="[CLS]", sep="[SEP]", pad="[PAD]", unk="[UNK]", mask="[MASK]")

# --- the rows ---

FAMILIES: Mapping[str, Family] = {
    "idefics3": Family(
        config=_towers(
            "idefics3",
            _text("llama"),
            _vision("idefics3_vision"),
            scale_factor=2,
            image_token_id="<image>",
        ),
        images=_images("Idefics3", **_TILING),
        processor=_processor("Idefics3", image_seq_len=4),
        tokenizer=byte_level,
        special=_special(
            bos="<|begin_of_text|>", eos="<end_of_utterance>", pad="<|reserved_special_token_0|>"
        ),
        tokens=f"<|end_of_text|> {_TILED}",
        wraps="<|begin_of_text|> $A",
        stops="<end_of_utterance> <|end_of_text|>",
        chat_template="<|begin_of_text|>" + _IDEFICS_TURNS,
    ),
    "smolvlm": Family(
        config=_towers(
            "smolvlm",
            _text("llama"),
            _vision("smolvlm_vision"),
            scale_factor=2,
            image_token_id="<image>",
        ),
        images=_images("SmolVLM", **_TILING),
        processor=_processor("SmolVLM", image_seq_len=4),
        tokenizer=byte_level,
        special=_special(
            bos="<|im_start|>", eos="<end_of_utterance>", pad="<|im_end|>", unk="<|endoftext|>"
        ),
        tokens=_TILED,
        stops="<end_of_utterance>",
        chat_template="<|im_start|>" + _IDEFICS_TURNS,
        needs_torchvision=True,
    ),
    "llava": Family(
        config=_towers(
            "llava", _text("llama"), _vision("clip_vision_model"), image_token_index="<image>"
        ),
        images=_images("CLIP", **_SHORT_EDGE),
        processor=_processor("Llava", **_CLIP_GRID),
        tokenizer=sentencepiece_prefixed,
        special=_LLAMA,
        tokens="<image>",
        wraps="<s> $A",
        stops="</s>",
        chat_template=_LLAVA,
    ),
    "llava_next": Family(
        config=_towers(
            "llava_next",
            _text("llama"),
            _vision("clip_vision_model"),
            image_token_index="<image>",
            image_grid_pinpoints=_PINPOINTS,
        ),
        images=_images("LlavaNext", **_SHORT_EDGE, image_grid_pinpoints=_PINPOINTS, do_pad=True),
        processor=_processor("LlavaNext", **_CLIP_GRID),
        tokenizer=sentencepiece_prefixed,
        special=_LLAMA,
        tokens="<image>",
        wraps="<s> $A",
        stops="</s>",
        chat_template=_LLAVA_MISTRAL,
    ),
    "llava_onevision": Family(
        config=_towers(
            "llava_onevision",
            _text("qwen2"),
            _vision("siglip_vision_model"),
            image_token_index="<image>",
            video_token_index="<video>",
            image_grid_pinpoints=_PINPOINTS,
        ),
        images=_images("LlavaOnevision", image_grid_pinpoints=_PINPOINTS, do_pad=True),
        processor=_processor(
            "LlavaOnevision", num_image_tokens=16, vision_feature_select_strategy="full"
        ),
        tokenizer=byte_level,
        special=_special(eos="<|im_end|>", pad="<|endoftext|>"),
        tokens="<|im_start|> <image> <video>",
        stops="<|im_end|> <|endoftext|>",
        chat_template=_LLAVA_QWEN,
        needs_torchvision=True,
    ),
    "qwen2_vl": _qwen(
        "qwen2_vl",
        "Qwen2VLProcessor",
        _qwen_vision("qwen2_vl_vision", embed_dim=32, mlp_ratio=2),
        _chatml(_QWEN_IMAGE, first=_QWEN_SYSTEM),
        plain="",
    ),
    "qwen2_5_vl": _qwen(
        "qwen2_5_vl",
        "Qwen2_5_VLProcessor",
        _qwen_vision("qwen2_5_vl_vision", out_hidden_size=32, intermediate_size=64)
        | {"window_size": 56, "fullatt_block_indexes": [1]},
        _chatml(_QWEN_IMAGE, first=_QWEN_SYSTEM),
        plain="<tool_call> </tool_call>",
    ),
    "qwen3_vl": _qwen(
        "qwen3_vl",
        "Qwen3VLProcessor",
        _qwen_vision("qwen3_vl_vision", out_hidden_size=32, intermediate_size=64)
        | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
        _chatml(_QWEN_IMAGE),
        plain="<tool_call> </tool_call> <think> </think>",
    ),
    "internvl": Family(
        config=_towers(
            "internvl",
            _text("qwen2"),
            _vision("internvl_vision", image_size=[56, 56], patch_size=[14, 14])
            | {"layer_scale_init_value": 1.0},
            image_token_id="<IMG_CONTEXT>",
            image_seq_length=4,
        ),
        images=_images("GotOcr2", crop_to_patches=False),
        processor=_processor("InternVL", image_seq_length=4),
        tokenizer=byte_level,
        special=_special(eos="<|im_end|>", pad="<|endoftext|>", video="<video>")
        | _special(start_image="<img>", end_image="</img>", context_image="<IMG_CONTEXT>"),
        tokens="<|im_start|>",
        stops="<|im_end|> <|endoftext|>",
        chat_template=_chatml("<IMG_CONTEXT>\n"),
        needs_torchvision=True,
    ),
    "gemma3": Family(
        config=_towers(
            "gemma3",
            _text("gemma3_text", query_pre_attn_scalar=8, sliding_window=64),
            _vision("siglip_vision_model"),
            mm_tokens_per_image=4,
            image_token_index="<image_soft_token>",
            boi_token_index="<start_of_image>",
            eoi_token_index="<end_of_image>",
        ),
        images=_images("Gemma3"),
        processor=_processor("Gemma3", image_seq_length=4),
        tokenizer=sentencepiece,
        special=_GEMMA | _GEMMA_IMAGE,
        tokens="<mask> <start_of_turn> <end_of_turn>",
        plain="\n \n\n \n\n\n ▁▁ ▁▁▁ <b> </b> <i> </i> <h1> </h1>",
        wraps="<bos> $A",
        stops="<eos> <end_of_turn>",
        chat_template=_GEMMA3,
    ),
    "gemma4": Family(
        config=_towers(
            "gemma4",
            _text("gemma4_text", global_head_dim=8, hidden_size_per_layer_input=8)
            # Left out, the per-layer vocabulary is 262144 rows of 512: 134 M weights.
            | {"vocab_size_per_layer_input": PADDED_END, "sliding_window": 64}
            | {"layer_types": ["sliding_attention", "full_attention"]},
            _vision("gemma4_vision", num_key_value_heads=4, head_dim=8)
            | {"patch_size": 16, "position_embedding_size": 128},
            image_token_id="<|image|>",
            boi_token_id="<|image>",
            eoi_token_id="<image|>",
            audio_token_id="<|audio|>",
        ),
        images=_images("Gemma4", max_soft_tokens=70),
        processor=_processor("Gemma4"),
        tokenizer=sentencepiece,
        special=_GEMMA
        | _special(image="<|image|>", boi="<|image>", eoi="<image|>")
        | _special(audio="<|audio|>", boa="<|audio>", eoa="<audio|>"),
        tokens="<|video|> <|turn> <turn|> <|think|> <|channel> <channel|>",
        wraps="<bos> $A",
        stops="<eos> <turn|>",
        chat_template=_GEMMA4,
        needs_torchvision=True,
    ),
    "mllama": Family(
        config=_towers(
            "mllama",
            # The picture's id is the first one past the text model, which cannot say it.
            _text("mllama_text_model", vocab_size="<|image|>")
            | {"cross_attention_layers": [1], "rope_parameters": _ROPE},
            _vision("mllama_vision_model", num_global_layers=1, attention_heads=4)
            | {"vision_output_dim": 64, "intermediate_layers_indices": [0], "max_num_tiles": 2}
            | {"supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]]},
            image_token_index="<|image|>",
        ),
        images=_images("Mllama", max_image_tiles=2, do_pad=True),
        processor=_processor("Mllama"),
        tokenizer=byte_level,
        special=_special(
            bos="<|begin_of_text|>", eos="<|eot_id|>", pad="<|finetune_right_pad_id|>"
        ),
        tokens="<|end_of_text|> <|eom_id|> <|start_header_id|> <|end_header_id|> <|python_tag|> "
        "<|image|>",
        wraps="<|begin_of_text|> $A",
        stops="<|end_of_text|> <|eom_id|> <|eot_id|>",
        chat_template=_LLAMA3,
    ),
    "granite_docling": Family(
        config=_towers(
            "granite_docling",
            _text("granite_docling_text", **_NO_MULTIPLIERS),
            _vision("granite_docling_vision", out_hidden_size=32, scale_factor=2),
            image_token_id="<image>",
        ),
        images=_images("GraniteDocling"),
        processor=_processor("GraniteDocling", image_seq_len=4),
        tokenizer=byte_level,
        special=_special(
            bos="<|start_of_role|>", eos="<|end_of_text|>", pad="<|end_of_text|>", unk="<|unk|>"
        ),
        tokens=f"<|end_of_role|> {_TILED} <doctag> </doctag> <text> </text> <loc_0>",
        stops="<|end_of_text|>",
        chat_template=_GRANITE,
    ),
    "got_ocr2": Family(
        config=_towers(
            "got_ocr2",
            _text("qwen2"),
            # The processor counts on 256 tokens a picture: 256 / 4 / 4 = 16 rows of 16.
            _vision("", image_size=256, patch_size=4, hidden_size=16, mlp_dim=32)
            | {"output_channels": 16, "global_attn_indexes": [], "window_size": 8},
            image_token_index="<imgpad>",
            image_seq_length=256,
        ),
        images=_images("GotOcr2", size={"height": 256, "width": 256}),
        processor=_processor("GotOcr2"),
        tokenizer=byte_level,
        special=_special(eos="<|endoftext|>", pad="<|endoftext|>"),
        tokens="<|im_start|> <|im_end|> <img> </img> <imgpad>",
        stops="<|endoftext|> <|im_end|>",
    ),
    "paligemma": Family(
        config=_towers(
            "paligemma",
            _text("gemma"),
            _vision("siglip_vision_model"),
            image_token_index="<image>",
            projection_dim=32,
            hidden_size=32,
            vocab_size=PADDED_END,
        ),
        images=_images("Siglip", image_seq_length=16),
        processor=_processor("PaliGemma"),
        tokenizer=sentencepiece,
        special=_GEMMA | _special(image="<image>"),
        tokens="<loc0000> <loc0001> <seg000> <seg001>",
        plain="\n \n\n",
        wraps="<bos> $A",
        stops="<eos>",
    ),
    "florence2": Family(
        config=_towers(
            "florence2",
            _text("bart", d_model=32, encoder_layers=1, decoder_layers=1)
            | {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 512}
            | {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
            | {"decoder_start_token_id": "</s>", "forced_eos_token_id": "</s>"},
            _config("florence_vision", embed_dim=[8, 8, 16, 32], projection_dim=32)
            | {"depths": [1, 1, 1, 1], "num_heads": [2, 2, 2, 2], "num_groups": [2, 2, 2, 2]}
            | {"window_size": 4, "max_position_embeddings": 16, "max_temporal_embeddings": 4},
            image_token_id="<image>",
            is_encoder_decoder=True,
        ),
        images=_images("CLIP", size={"height": 128, "width": 128}, do_center_crop=False)
        | {"image_seq_length": 17},
        processor=_processor("Florence2", num_additional_image_tokens=1, post_processor_config={}),
        tokenizer=byte_level,
        special=_LLAMA | _special(mask="<mask>", image="<image>"),
        tokens="<loc_0> <loc_1> <cap> </cap> <od> </od> <ocr> </ocr>",
        wraps="<s> $A </s>",
        stops="</s>",
    ),
    "blip": Family(
        config=_towers(
            "blip",
            # An answer starts with an id that the tokenizer has never heard of.
            _learned_positions("blip_text_model", bos_token_id=VOCABULARY_END)
            | {"projection_dim": 32, "sep_token_id": "[SEP]"},
            _vision("blip_vision_model"),
            projection_dim=32,
        ),
        images=_images("Blip"),
        processor=_processor("Blip"),
        tokenizer=wordpiece,
        special=_BERT,
        wraps="[CLS] $A [SEP]",
        stops="[SEP]",
    ),
    "blip-2": Family(
        config=_towers(
            "blip-2",
            _learned_positions("opt", word_embed_proj_dim=32, ffn_dim=64),
            _vision("blip_2_vision_model"),
            qformer_config=_learned_positions("blip_2_qformer"),
            num_query_tokens=4,
            image_token_index="<image>",
        ),
        images=_images("Blip"),
        processor=_processor("Blip2", num_query_tokens=4),
        tokenizer=byte_level,
        special=_special(bos="</s>", eos="</s>", pad="<pad>", unk="</s>"),
        tokens="<image>",
        wraps="</s> $A",
        stops="</s>",
    ),
    "git": Family(
        config=_learned_positions("git", vision_config=_vision("git_vision_model")),
        images=_images("CLIP", **_SHORT_EDGE),
        processor=_processor("Git"),
        tokenizer=wordpiece,
        special=_BERT,
        wraps="[CLS] $A [SEP]",
        stops="[SEP]",
    ),
    "pix2struct": Family(
        config=_towers(
            "pix2struct",
            _config("pix2struct_text_model", vocab_size=PADDED_END, hidden_size=32)
            | {"d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
            | {"decoder_start_token_id": "<pad>"},
            _vision("pix2struct_vision_model", patch_embed_hidden_size=768)
            | {"d_ff": 64, "d_kv": 8, "seq_len": 64},
            is_encoder_decoder=True,
        ),
        images=_images("Pix2Struct", patch_size={"height": 16, "width": 16}, max_patches=64)
        | {"is_vqa": False},
        processor=_processor("Pix2Struct"),
        tokenizer=sentencepiece_prefixed,
        special=_special(eos="</s>", pad="<pad>", unk="<unk>"),
        wraps="$A </s>",
        stops="</s>",
    ),
    "vision-encoder-decoder": Family(
        config=_config(
            "vision-encoder-decoder",
            is_encoder_decoder=True,
            encoder=_vision("vit"),
            decoder=_config("gpt2", vocab_size=PADDED_END, n_positions=512, n_embd=32)
            | {"n_layer": 2, "n_head": 4, "add_cross_attention": True, "is_decoder": True},
            decoder_start_token_id="<|endoftext|>",
            pad_token_id="<|endoftext|>",
            eos_token_id="<|endoftext|>",
        ),
        images=_images("ViT"),
        tokenizer=byte_level,
        special=dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<|endoftext|>"),
        stops="<|endoftext|>",
    ),
    "lfm2_vl": Family(
        config=_towers(
            "lfm2_vl",
            _text("lfm2", layer_types=["conv", "full_attention"], block_ff_dim=64),
            _vision("siglip2_vision_model", num_patches=256, patch_size=16),
            projector_hidden_size=64,
            image_token_id="<image>",
        ),
        images=_images("Lfm2Vl", image_processor_type="Lfm2VlImageProcessorFast"),
        processor=_processor("Lfm2Vl"),
        tokenizer=byte_level,
        special=_special(bos="<|startoftext|>", eos="<|im_end|>", pad="<|pad|>", image="<image>")
        | _special(image_start="<|image_start|>", image_end="<|image_end|>")
        | {"image_thumbnail": "<|img_thumbnail|>"},
        tokens="<|im_start|> <|img_row_1_col_1|> <|img_row_1_col_2|>",
        wraps="<|startoftext|> $A",
        stops="<|im_end|>",
        chat_template=_chatml("<image>", first="{{ bos_token }}"),
        needs_torchvision=True,
    ),
}
