"""What the tests share: the front door, a world of its own for each test, and models to ask."""

import io
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from hub_server import Hub
from huggingface_hub import close_session, constants
from PIL import Image

from vlmcli import backends, hub
from vlmcli.app import main
from vlmcli.backends import Engine
from vlmcli.messages import Chunk, Delta, Done, Message, Sampling, Thought, Verdict, images_of
from vlmcli.settings import Settings

Run = Callable[..., tuple[int, str, str]]
Say = Callable[..., tuple[int, list[str], str]]

DATA = Path(__file__).parent / "data"


@pytest.fixture(autouse=True)
def own_world(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No settings, no cache and no network of whoever runs the tests; loopback stays open."""
    home = tmp_path_factory.mktemp("home")
    for name in [name for name in __import__("os").environ if name.startswith(("VLM_", "HF_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(home / "huggingface"))
    (home / "config.toml").touch()
    monkeypatch.setenv("VLM_CONFIG", str(home / "config.toml"))
    monkeypatch.setenv("VLM_DATA", str(home / "data"))
    monkeypatch.setenv("VLM_CACHE_DIR", str(home / "cache"))
    connect = socket.socket.connect

    def only_loopback(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test reaches for {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_loopback)


@pytest.fixture
def run(capfdbinary: Any, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `vlm` with arguments (and bytes on stdin); exit code, stdout, stderr."""

    def run_vlm(*arguments: object, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main([str(argument) for argument in arguments])
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return run_vlm


@dataclass
class FakeEngine:
    """Stands in for a model: says `answers` in turn (the last one for ever), and remembers.

    `chances` are those of yes and no, by a piece of the picture's name or of the question.
    """

    answers: Sequence[str] = ("A red square.",)
    chances: dict[str, tuple[float, float]] = field(default_factory=dict)
    calls: list[tuple[Sequence[Message], Sampling]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    loads: list[Settings] = field(default_factory=list)
    reason: str = "stop"
    note: str = ""
    thoughts: str = ""

    def load(self, settings: Settings) -> Engine:
        self.loads.append(settings)
        return Engine(
            model="fake",
            device="cpu",
            dtype="float32",
            generate=self.generate,
            why="as the test says",
            note=self.note,
            affirm=self.affirm,
        )

    def affirm(self, conversation: Sequence[Message]) -> Verdict:
        (name,), (question,) = [i.name for i in images_of(conversation)], conversation[-1].texts
        self.asked.append((name, question))
        found = [chances for piece, chances in self.chances.items() if piece in name + question]
        yes, no = found[0] if found else (0.1, 0.8)
        return Verdict(yes, no, Done("stop", 76, 64, 1, 0.5, 0.5))

    def generate(self, conversation: Sequence[Message], sampling: Sampling) -> Iterator[Chunk]:
        answer = self.answers[min(len(self.calls), len(self.answers) - 1)]
        self.calls.append((conversation, sampling))
        yield from (Thought(word) for word in self.thoughts.split("|") if word)
        yield from (Delta(word) for word in answer.split("|"))
        yield Done(self.reason, 76, 64, answer.count("|") + 1, 0.5, 1.0)  # type: ignore[arg-type]


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    engine = FakeEngine()
    monkeypatch.setattr(backends, "load", engine.load)
    monkeypatch.setattr(backends, "identify", lambda settings: ("fake", None))
    monkeypatch.setattr(backends, "begin", lambda: None)  # there is nothing to import for it
    return engine


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny random model of a family, built once."""
    root = tmp_path_factory.mktemp("models")

    def folder(family: str) -> Path:
        where = root / family
        # An import that a test before this has begun: two threads cannot take names from
        # transformers while it is imported, which puts another module in its place.
        backends.start()
        return where if where.exists() else tiny_models.build(family, where)

    return folder


@pytest.fixture
def chat_model(tiny: Callable[[str], Path]) -> str:
    """What -m is given where a test holds a conversation with a real model."""
    return str(tiny("idefics3"))


@pytest.fixture
def talker(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A chats_here.Talker, which stands in for a model and tells what it is given."""
    from chats_here import Talker

    engine = Talker()
    monkeypatch.setattr(backends, "load", engine.load)
    monkeypatch.setattr(backends, "begin", lambda: None)
    return engine


@pytest.fixture
def say(run: Run, talker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    """Chat with the lines; exit code, the lines of stdout, stderr. We are in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def say_lines(*lines: str, arguments: Sequence[object] = ()) -> tuple[int, list[str], str]:
        typed = "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")
        code, out, err = run("chat", *arguments, stdin=typed)
        return code, out.splitlines(), err

    return say_lines


def draw(path: Path, size: tuple[int, int] = (64, 48), colour: str = "red") -> Path:
    """A picture on disk: a plain colour with a blue corner, so that up and left can be told."""
    picture = Image.new("RGB", size, colour)
    picture.paste("blue", (0, 0, size[0] // 4, size[1] // 4))
    picture.save(path)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return draw(tmp_path / "photo.png")


# a Hub


@pytest.fixture
def server() -> Iterator[Hub]:
    with Hub() as running:
        yield running


@pytest.fixture
def cache(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and the loopback Hub as the only Hub; there is no built-in model."""
    folder = tmp_path / "cache"
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "BUILTIN_FOLDER", tmp_path / "builtin")
    point_at(server.url, monkeypatch)
    yield folder
    close_session()


def point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def model(folder: Path, **files: str) -> Path:
    """A folder with the files of a tiny model; a keyword's `__` stands for the dot."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"config.json": "{}", "tokenizer.json": "[]", "model.safetensors": "weights"}
    for name, text in {**texts, **{n.replace("__", "."): t for n, t in files.items()}}.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def owned(server: Hub, cache: Path, tmp_path: Path) -> Path:
    """The folder that the Hub serves as owner/name."""
    folder = model(tmp_path / "served")
    server.add("owner/name", folder)
    return folder
