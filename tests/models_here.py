"""A world for tests of `vlm models`: a Hub on loopback, an empty cache, and models to put there."""

import json
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hub_server import MAIN, Hub
from huggingface_hub import close_session, constants, snapshot_download
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

from vlmcli.models import cached

OTHER = "2" * 40
NUMBERS = 1000  # in the weights of `write_model`
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class World:
    """Where the models of a test are; `cache` is that of every process it starts, too."""

    hub: Hub
    cache: Path
    root: Path

    def serve(self, name: str, revisions: dict[str, str] | None = None, **files: str) -> Path:
        """A small model on the Hub; the folder that it serves."""
        folder = write_model(self.root / "served" / name / str(time.monotonic_ns()), **files)
        self.hub.add(name, folder, revisions=revisions)
        return folder

    def put(self, name: str, revision: str = "main", **files: str) -> Path:
        """A model in the cache, as huggingface_hub itself puts it there; its snapshot."""
        if name not in self.hub.repos or files:
            self.serve(name, {revision: MAIN} if revision == "main" else None, **files)
        disable_progress_bars()
        folder = snapshot_download(
            name, revision=revision, cache_dir=self.cache, endpoint=self.hub.url
        )
        self.hub.requests.clear()
        return Path(folder)

    def place(self, name: str) -> Path:
        return self.cache / f"models--{name.replace('/', '--')}"


@contextmanager
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Everything empty; this process and its children know no other Hub and no other cache."""
    cache = tmp_path / "hf" / "hub"
    with Hub() as hub:
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_HOME", str(cache.parent))
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(cached, "BUILTIN_FOLDER", tmp_path / "no builtin")
        yield World(hub, cache, tmp_path)
        enable_progress_bars()
        close_session()


def write_model(folder: Path, **files: str) -> Path:
    """A folder that looks like a vision-language model; a keyword's `__` stands for the dot."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "smolvlm",
        "architectures": ["SmolVLMForConditionalGeneration"],
        "vision_config": {"model_type": "smolvlm_vision"},
        "text_config": {"model_type": "llama", "max_position_embeddings": 8192},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights(NUMBERS))
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def weights(numbers: int) -> bytes:
    """A safetensors file that holds so many zeros in bfloat16."""
    entry = {"dtype": "BF16", "shape": [numbers // 10, 10], "data_offsets": [0, 2 * numbers]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": entry}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(2 * numbers)


def spoil(file: Path) -> None:
    """Change the last byte of what a link leads to."""
    data = bytearray(file.read_bytes())
    data[-1] ^= 255
    file.resolve().write_bytes(data)


def last_used(folder: Path, days_ago: float) -> None:
    """As if the model had been read that long ago, and downloaded a day before."""
    moment = time.time() - days_ago * DAY_S
    for file in folder.rglob("*"):
        if file.is_file():
            os.utime(file, (moment, moment - DAY_S))
