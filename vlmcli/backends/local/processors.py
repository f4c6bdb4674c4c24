"""A model folder -> what turns its pictures and text into tensors, with or without torchvision."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import transformers
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer
from transformers import processing_utils as processing
from transformers.image_processing_base import ImageProcessingMixin
from transformers.models.auto.video_processing_auto import AutoVideoProcessor
from transformers.models.smolvlm import processing_smolvlm

from vlmcli.backends.local.resolution import Sight, View
from vlmcli.errors import ModelError

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


@dataclass(frozen=True, slots=True)
class Processor:
    """What a model's folder says about its inputs.

    `combined` is transformers' processor of text and images; None for an encoder and a decoder that
    were only put side by side (ViT + GPT-2), which take a picture and no text. `sight` says how
    finely pictures are seen.
    """

    name: str
    config: Any
    tokenizer: Any
    image_processor: Any
    combined: Any | None
    sight: Sight = field(default_factory=Sight)

    @property
    def view(self) -> View:
        """The size in which pictures are given to it."""
        return View(self.name, self.image_processor, self.combined, self.sight)

    @property
    def image_token_id(self) -> int | None:
        """The token that stands for a piece of a picture in the prompt, if the family has one."""
        for owner, key in (
            (self.config, "image_token_id"),
            (self.config, "image_token_index"),
            (self.combined, "image_token_id"),
        ):
            if isinstance(found := getattr(owner, key, None), int):
                return found
        return None

    @property
    def video_processor(self) -> Any | None:
        """What takes a video; None where the family has none, or it needs what is not here."""
        found = getattr(self.combined, "video_processor", None)
        return None if isinstance(found, _NoVideo) else found

    @property
    def video_token_id(self) -> int | None:
        """The token that stands for a piece of a video in the prompt, if the family has one."""
        for owner in (self.config, self.combined):
            if isinstance(found := getattr(owner, "video_token_id", None), int):
                return found
        return None

    @property
    def context_tokens(self) -> int | None:
        """The longest prompt and answer together, in tokens, if the configuration says so."""
        return number(self.config.get_text_config(decoder=True), "max_position_embeddings") or None


def number(config: Any, name: str) -> int:
    """A whole number of a configuration; 0 where it has none, or one of its own for each layer."""
    try:
        found = getattr(config, name, 0)
    except RuntimeError:  # transformers' AmbiguousGlobalPerLayerAttributeError
        return 0
    return found if isinstance(found, int) else 0


def load(folder: Path, name: str, *, run_code: bool = False) -> Processor:
    """The processor of the model in `folder`; `name` is what errors call it.

    `run_code` lets program code run that the model brings along. Raises ModelError if there is no
    processor, if it is damaged, or if it needs a package that is missing.
    """
    made_by = partial(_read, folder=folder, name=name, run_code=run_code)
    config = made_by(AutoConfig.from_pretrained)
    with _without_video():
        combined = made_by(AutoProcessor.from_pretrained)
    if hasattr(combined, "image_processor"):
        return Processor(name, config, combined.tokenizer, combined.image_processor, combined)
    # AutoProcessor gives a bare tokenizer or image processor where no class joins the two.
    return Processor(
        name,
        config,
        made_by(AutoTokenizer.from_pretrained),
        made_by(AutoImageProcessor.from_pretrained),
        None,
    )


def _read(load: Callable[..., Any], folder: Path, name: str, *, run_code: bool) -> Any:
    try:
        return load(folder, local_files_only=True, trust_remote_code=run_code)
    except (ImportError, ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        raise explain(error, name) from error


def explain(error: Exception, name: str) -> ModelError:
    """Say in one line why transformers could not load something of a model."""
    text = " ".join(str(error).split())
    lower = text.lower()
    if "torchvision" in lower:
        return ModelError(
            f"{name} needs torchvision, which is not installed or does not work here",
            hint="install the torchvision that matches this torch",
        )
    if package := re.search(r"pip install [`'\"]?(\w[\w\-]*)", text):
        return ModelError(
            f"{name} needs the package {package[1]}", hint=f"pip install {package[1]}"
        )
    return ModelError(f"{name} cannot be loaded: {text[:300]}", hint="are its files complete?")


class _NoVideo(ImageProcessingMixin):  # type: ignore[misc]
    """Stands in for a video processor where torchvision is missing; frames go in as images."""

    num_frames = 0
    fps = 1


@contextmanager
def _without_video() -> Iterator[None]:
    """Load processors of families that ask for torchvision only because of video.

    Everything else in them runs on Pillow. With a working torchvision nothing is changed.
    """
    if transformers.utils.is_torchvision_available():
        yield
        return
    kinds = processing.MODALITY_TO_BASE_CLASS_MAPPING
    with (
        mock.patch.object(AutoVideoProcessor, "from_pretrained", lambda *_, **__: _NoVideo()),
        mock.patch.dict(kinds, {"video_processor": "ImageProcessingMixin"}),
    ):
        # Spells the number of frames in the text of a video; frames that are images need none.
        processing_smolvlm.num2words = processing_smolvlm.num2words or str
        yield
