"""A second question about the same picture: the encoder is skipped, and nothing else changes."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import tiny_models
import torch
from conftest import Run, draw
from PIL import Image
from transformers import AutoModelForImageTextToText, LlavaModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput

from vlmcli import caches, config, messages
from vlmcli.backends import Engine
from vlmcli.backends.local import encoders, engine, pieces
from vlmcli.caches import Shelf
from vlmcli.messages import Answer, Delta, Done, Message, Sampling, Text, Video, user

Tiny = Callable[[str], Path]

RUNNING = sorted(set(tiny_models.FAMILIES) - {"lfm2_vl"})  # needs torchvision
KEPT = sorted({*RUNNING} - {"git"})  # whose encoder transformers itself does not find
TOGETHER = ["llava_onevision", "mllama"]  # where each depends on the others, or may
PLAIN = {name for name, row in tiny_models.FAMILIES.items() if row.chat_template is None}
EACH_BY_ITSELF = sorted({*KEPT, "paligemma"} - {*TOGETHER} - (PLAIN - {"paligemma"}))
WORDS = Text("Describe this image in one short sentence.", caption_style="short")


@pytest.fixture
def folder() -> Path:
    """Where the features of this test are kept; it is not there yet."""
    return caches.features_folder()


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def load(model: Path, **changes: Any) -> Engine:
    flags = {"model": str(model), "dtype": "float32", "device": "cpu", **changes}
    return engine.load(config.resolve(flags, {}, {}))


def picture(colour: str, size: tuple[int, int] = (64, 48)) -> messages.Image:
    pixels = Image.new("RGB", size, colour)
    pixels.paste("blue", (0, 0, size[0] // 4, size[1] // 4))
    return messages.Image(f"{colour}.png", pixels, "")


def say(loaded: Engine, conversation: list[Message]) -> tuple[str, Done]:
    *deltas, done = loaded.generate(conversation, Sampling(max_tokens=10))
    assert isinstance(done, Done)
    return "".join(delta.text for delta in deltas if isinstance(delta, Delta)), done


def ask(model: Path, *seen: messages.Image, **changes: Any) -> tuple[str, tuple[int, int]]:
    """What a new process would say of pictures; how many features were known, and of how many."""
    text, done = say(load(model, **changes), [user(WORDS, seen)])
    return text, (done.cached_features, done.features)


@contextmanager
def looks(model: Path) -> Iterator[list[int]]:
    """How large each thing is that the vision encoder of the model is given in this block."""
    tower = AutoModelForImageTextToText.from_pretrained(model).get_encoder(modality="image")
    seen: list[int] = []

    def count(module: Any, args: Any, kwargs: dict[str, Any], _out: Any) -> None:
        if type(module) is type(tower):
            given = next(x for x in [*args, *kwargs.values()] if isinstance(x, torch.Tensor))
            seen.append(given.numel())

    hook = torch.nn.modules.module.register_module_forward_hook(count, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


# ---- the same answer, without a look


def test_what_was_seen_in_a_batch_is_known_alone_and_the_other_way_round(
    tiny: Tiny, folder: Path
) -> None:
    asked = [[user(WORDS, [picture(colour)])] for colour in ("red", "green")]
    loaded = load(tiny("llava"))
    assert loaded.generate_many
    several = loaded.generate_many(asked, Sampling(max_tokens=10))
    dones = [one.done for one in several if isinstance(one, Answer)]
    assert [one.together for one in dones] == [2, 2]
    found = [say(loaded, one)[1] for one in asked]
    assert [(one.features, one.cached_features) for one in found] == [(1, 1)] * 2
    before = kept(folder)
    again = load(tiny("llava"))
    assert again.generate_many and len(before) == 2
    with looks(tiny("llava")) as seen:
        list(again.generate_many(asked, Sampling(max_tokens=10)))
    assert len(seen) == 1  # the row alone that the batch is compared with
    assert kept(folder) == before


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", KEPT)
def test_a_second_process_says_the_same_from_what_the_first_one_kept(
    tiny: Tiny, folder: Path, family: str, dtype: str
) -> None:
    model, red = tiny(family), picture("red")
    without, none = ask(model, red, dtype=dtype, cache=False)
    assert none == (0, 0) and not folder.exists()

    assert ask(model, red, dtype=dtype) == (without, (0, 1))
    assert len(kept(folder)) == 1
    assert ask(model, red, dtype=dtype) == (without, (1, 1))


@pytest.mark.parametrize("family", ["smolvlm", "qwen3_vl", "llava_next", "internvl", "gemma4"])
def test_the_encoder_is_not_asked_once_more(tiny: Tiny, family: str) -> None:
    with looks(tiny(family)) as seen:
        ask(tiny(family), picture("red"))
        (first,) = seen
        ask(tiny(family), picture("red"))
        assert seen == [first]


def test_a_model_whose_encoder_is_not_found_answers_as_before(tiny: Tiny, folder: Path) -> None:
    model, red = tiny("git"), picture("red")
    assert ask(model, red) == ask(model, red) == ask(model, red, cache=False)
    assert not folder.exists()


# ---- several pictures


def one_tile(tiny: Tiny, tmp_path: Path) -> Path:
    """SmolVLM that sees every picture whole: its pictures then lie along the second axis."""
    model = shutil.copytree(tiny("smolvlm"), tmp_path / "one tile")
    for name in ("preprocessor_config.json", "processor_config.json"):
        settings = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps(settings | {"do_image_splitting": False}))
    return model


@pytest.mark.parametrize("family", [*EACH_BY_ITSELF, "smolvlm of one tile"])
def test_beside_a_picture_that_is_known_only_the_other_is_encoded(
    tiny: Tiny, tmp_path: Path, family: str
) -> None:
    model = one_tile(tiny, tmp_path) if "tile" in family else tiny(family)
    red, green, white = picture("red"), picture("green"), picture("white")
    with looks(model) as seen:
        ask(model, red)
        (first,) = seen
        text, counts = ask(model, green, red)
        assert counts == (1, 2) and seen == [first, first]
        assert ask(model, green, red) == (text, (2, 2))
        assert ask(model, green, white, green)[1] == (1, 2)  # the same one twice is one
        assert seen == [first, first, first]
    assert ask(model, green, red, cache=False)[0] == text
    assert ask(model, red, green) == (ask(model, red, green, cache=False)[0], (2, 2))


@pytest.mark.parametrize("family", ["smolvlm", "idefics3", "internvl"])
def test_pictures_of_several_tiles_are_told_apart(tiny: Tiny, family: str) -> None:
    red, tall = picture("red"), picture("green", (48, 96))  # of another number of them
    ask(tiny(family), tall)
    text, counts = ask(tiny(family), red, tall)
    assert counts == (1, 2)
    assert text == ask(tiny(family), red, tall, cache=False)[0]


@pytest.mark.parametrize("family", TOGETHER)
def test_pictures_that_cannot_be_told_apart_are_kept_together(tiny: Tiny, family: str) -> None:
    model, red, green = tiny(family), picture("red"), picture("green", (48, 96))
    without = ask(model, red, green, cache=False)[0]
    assert ask(model, red, green) == (without, (0, 1))
    assert ask(model, red, green) == (without, (1, 1))
    assert ask(model, green, red)[1] == (0, 1)


def test_the_frames_of_a_clip_are_kept_as_one(tiny: Tiny) -> None:
    frames = tuple(picture(colour).pixels for colour in ("red", "green", "white"))
    asked = [user("what happens?", [Video("clip.mp4", frames, (0.0, 1.0, 2.0), 3.0)])]
    without, _ = say(load(tiny("smolvlm"), cache=False), asked)
    for known in (0, 1):
        text, done = say(load(tiny("smolvlm")), asked)
        assert (text, done.cached_features, done.features) == (without, known, 1)


def test_a_picture_that_joins_a_conversation_is_known_from_before(tiny: Tiny) -> None:
    ask(tiny("qwen2_5_vl"), picture("green"))
    loaded = load(tiny("qwen2_5_vl"))
    turns = [user("what is in the picture?", [picture("red")])]
    text, first = say(loaded, turns)
    turns += [Message("assistant", (Text(text),)), user("and this?", [picture("green")])]
    _, second = say(loaded, turns)
    assert (first.cached_features, first.features) == (0, 1)
    assert (second.cached_features, second.features) == (1, 1) and second.cached_tokens


# ---- what makes an answer stale


def test_another_picture_under_the_same_name_is_another_one(
    run: Run, tiny: Tiny, tmp_path: Path
) -> None:
    flags = ("-m", tiny("smolvlm"), "-n", "8", "--dtype", "float32", "--json")
    texts = []
    for colour in ("red", "green", "red"):
        draw(tmp_path / "photo.png", colour=colour)
        answer = json.loads(run("caption", tmp_path / "photo.png", *flags)[1])
        texts.append(answer["text"])
        assert ("cached_features" in answer) == (len(texts) == 3)
    assert texts[0] == texts[2] != texts[1]


def test_other_weights_in_the_same_folder_see_otherwise(tiny: Tiny, tmp_path: Path) -> None:
    model = shutil.copytree(tiny("llava"), tmp_path / "model")
    before = ask(model, picture("red"))[0]
    tiny_models.build("llava", model, seed=1)
    text, counts = ask(model, picture("red"))
    assert counts == (0, 1) and text != before
    assert text == ask(model, picture("red"), cache=False)[0]


def test_the_same_weights_in_another_folder_see_the_same(tiny: Tiny, tmp_path: Path) -> None:
    moved = shutil.copytree(tiny("llava"), tmp_path / "moved")
    ask(tiny("llava"), picture("red"))
    assert ask(moved, picture("red"))[1] == (1, 1)


@pytest.mark.parametrize("change", [{"dtype": "bfloat16"}, {"quantize": "int8"}])
def test_another_number_format_sees_otherwise(tiny: Tiny, change: dict[str, str]) -> None:
    model, red = tiny("llava"), picture("red")
    ask(model, red)
    assert ask(model, red, **change)[1] == (0, 1)
    assert ask(model, red)[1] == ask(model, red, **change)[1] == (1, 1)


def test_the_same_picture_in_other_detail_is_encoded_anew(tiny: Tiny) -> None:
    model, red = tiny("smolvlm"), picture("red")  # of which it makes one view, or several tiles
    ask(model, red, detail="low")
    assert ask(model, red, detail="max")[1] == (0, 1)
    assert ask(model, red, detail="low")[1] == ask(model, red, detail="max")[1] == (1, 1)


# ---- every way to ask


def test_all_commands_know_what_one_of_them_saw(run: Run, picture: Path, folder: Path) -> None:
    model = ("--model", "builtin", "--stats")
    assert "cache" not in run("caption", picture, *model)[2]
    for arguments in (
        ("ask", picture, "which colour is it?"),
        ("ask", picture, "which colour is it?", "--choices", "red,green"),
        ("grep", "a red square", picture),
    ):
        _, _, err = run(*arguments, *model)
        assert "features: 1 of 1 from the cache" in err
    _, out, _ = run("chat", picture, *model, stdin=b"which colour is it?\n")
    assert out and len(kept(folder)) == 1


@pytest.mark.slow
def test_a_program_that_ends_at_once_has_kept_what_it_saw(tmp_path: Path, folder: Path) -> None:
    photo = draw(tmp_path / "photo.png")
    command = [sys.executable, "-m", "vlmcli", "grep", "a red shape", str(photo), "-M", "builtin"]
    errors = [
        subprocess.run([*command, "--stats"], capture_output=True, text=True).stderr
        for _ in range(2)
    ]
    assert ["from the cache" in err for err in errors] == [False, True]


@pytest.mark.parametrize("way", ["flag", "variable", "file"])
def test_without_the_cache_nothing_is_read_or_written(
    run: Run, tiny: Tiny, picture: Path, folder: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("caption", picture, "-m", tiny("llava"), "-n", "4", "--json")
    assert "cached_features" not in json.loads(run(*asked)[1])
    before = {file: file.stat().st_mtime_ns for file in kept(folder)}
    if way == "variable":
        monkeypatch.setenv("VLM_CACHE", "no")
    if way == "file":
        Path(os.environ["VLM_CONFIG"]).write_text("cache = false\n")
    code, out, err = run(*asked, *(["--no-cache"] if way == "flag" else []))
    assert (code, err) == (0, "") and "cached_features" not in json.loads(out)
    assert {file: file.stat().st_mtime_ns for file in kept(folder)} == before
    draw(picture, colour="green")
    run(*asked, *(["--no-cache"] if way == "flag" else []))
    assert [*before] == kept(folder)


def test_records_and_the_doctor_tell_of_it(
    run: Run, tiny: Tiny, picture: Path, folder: Path
) -> None:
    def doctor(*flags: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(run("doctor", "--json", "--offline", *flags)[1])
        return dict(found["models"]["features"])

    assert doctor()["files"] == 0 and doctor()["path"] == str(folder)
    for known in (False, True):
        _, out, _ = run("caption", picture, "-m", tiny("llava"), "-n", "4", "--json")
        assert ("cached_features" in json.loads(out)) == known
    found = doctor()
    assert found["files"] == 1 and found["bytes"] == kept(folder)[0].stat().st_size
    assert "remove that folder" in found["hint"] and str(folder) in found["value"]


# ---- what is on the disk


def test_what_is_kept_is_for_nobody_else_and_names_nothing(
    run: Run, tiny: Tiny, tmp_path: Path, folder: Path
) -> None:
    photo = draw(tmp_path / "secret name.png")
    run("ask", photo, "what is the secret?", "-m", tiny("llava"), "-n", "4")
    (file,) = kept(folder)
    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    assert b"secret" not in file.read_bytes() and "secret" not in file.name
    assert [*folder.iterdir()] == [file]  # and nothing half written


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    "damaged",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"no features at all",
        lambda data: b"\xff" * len(data),
        flipped,
        lambda data: data.replace(b'"F32"', b'"I32"'),
        lambda data: data.replace(b"pooler_output", b"pooler_input "),
    ],
)
def test_a_damaged_file_is_passed_over_and_replaced(
    tiny: Tiny, folder: Path, damaged: Callable[[bytes], bytes]
) -> None:
    model, red = tiny("llava"), picture("red")
    text, _ = ask(model, red)
    (file,) = kept(folder)
    whole = file.read_bytes()
    file.write_bytes(damaged(whole))
    file.chmod(0o666)
    assert ask(model, red) == (text, (0, 1))
    assert file.read_bytes() == whole and file.stat().st_mode & 0o777 == 0o600
    assert ask(model, red) == (text, (1, 1))


def test_features_that_are_not_finite_are_not_kept(
    tiny: Tiny, tmp_path: Path, folder: Path
) -> None:
    model = shutil.copytree(tiny("llava"), tmp_path / "model")
    weights = safetensors.torch.load_file(model / "model.safetensors")
    name = next(name for name in weights if "projector" in name and name.endswith("bias"))
    weights[name] *= torch.nan
    safetensors.torch.save_file(weights, model / "model.safetensors", {"format": "pt"})
    assert ask(model, picture("red")) == ask(model, picture("red"))
    assert kept(folder) == []


@pytest.mark.parametrize("trouble", ["no folder", "no space"])
def test_a_disk_that_cannot_be_written_costs_no_answer(
    run: Run, tiny: Tiny, picture: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("caption", picture, "-m", tiny("llava"), "-n", "4")
    expected = run(*asked, "--no-cache")[1]
    if trouble == "no folder":
        Path(os.environ["VLM_CACHE_DIR"]).write_text("a file")
    else:

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
    assert run(*asked) == (0, expected, "")
    code, out, err = run(*asked, "-v")
    assert (code, out) == (0, expected)
    told = [line for line in err.splitlines() if "cannot be" in line]
    assert len(told) == 1 and os.environ["VLM_CACHE_DIR"] in told[0]


def test_a_disk_that_hangs_holds_up_no_answer(
    tiny: Tiny, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken, syncs = threading.Event(), []
    monkeypatch.setattr(os, "fsync", lambda _: syncs.append(woken.wait(60)))
    loaded = load(tiny("llava"))
    for colour in ("red", "green"):  # of which the second is not so much as begun
        say(loaded, [user(WORDS, [picture(colour)])])
    assert syncs == [] and kept(folder) == []
    woken.set()
    until = time.monotonic() + 10
    while not kept(folder) and time.monotonic() < until:
        time.sleep(0.01)
    assert len(kept(folder)) == 1


# ---- no more than there may be


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf", ".x", 16_000)
    for n in range(10):
        shelf.write(f"{n}", bytes(1000))
        os.utime(shelf.folder / f"{n}.x", (n, n))
    (shelf.folder / "notes.txt").write_bytes(bytes(20_000))  # none of ours
    assert shelf.read("0") == bytes(1000)  # used now

    for n in range(100, 112):
        Shelf(tmp_path / "shelf", ".x", 16_000).write(f"{n}", bytes(1000))
        assert caches.held(shelf.folder, ".x")[1] <= 16_000
    assert shelf.read("0") and shelf.read("9") and shelf.read("111")
    assert [shelf.read(f"{n}") for n in range(1, 5)] == [None] * 4
    assert (shelf.folder / "notes.txt").exists()


def test_a_shelf_that_may_hold_less_now_is_cut_by_one_that_fits_no_more(tmp_path: Path) -> None:
    for n in range(16):
        Shelf(tmp_path, ".x", 16_000).write(f"{n}", bytes(1000))
    Shelf(tmp_path, ".x", 4000).write("more", bytes(1000))
    assert 0 < sum(file.stat().st_size for file in tmp_path.iterdir()) <= 4000
    assert not (tmp_path / "more.x").exists()


def test_one_process_keeps_no_more_than_there_may_be(tmp_path: Path) -> None:
    """A run over a million pictures does not wear the disk out, nor push out its own."""
    shelf = Shelf(tmp_path, ".x", 16_000)
    for n in range(40):
        shelf.write(f"{n}", bytes(1000))
    assert [n for n in range(40) if shelf.read(f"{n}")] == [*range(16)]


def test_one_file_is_never_most_of_all_that_is_kept(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, ".x", 16_000)
    shelf.write("large", bytes(2001))
    shelf.write("small", bytes(2000))
    assert caches.held(tmp_path, ".x") == (1, 2000)


def test_the_most_that_is_kept_is_a_setting(
    run: Run, tiny: Tiny, tmp_path: Path, folder: Path
) -> None:
    asked = ("-m", tiny("llava"), "-n", "1", "--dtype", "float32")
    for n in range(6):
        photo = draw(tmp_path / f"{n}.png", colour=f"#0000{n:02}")
        run("caption", photo, *asked, "--max-cache-bytes", 20_000)
    sizes = [file.stat().st_size for file in kept(folder)]
    assert len(sizes) == 6 and sum(sizes) <= 20_000
    for n in range(6, 12):
        photo = draw(tmp_path / f"{n}.png", colour=f"#00{n:02}00")
        run("caption", photo, *asked, "--max-cache-bytes", 20_000)
    assert sum(file.stat().st_size for file in kept(folder)) <= 20_000


WRITER = """
import os, sys
from pathlib import Path
from vlmcli.caches import Shelf

folder, seed = Path(sys.argv[1]), int(sys.argv[2])
print(flush=True)
while True:
    shelf = Shelf(folder, ".x", 200_000)
    for n in range(8):
        key = (seed + n) % 16
        shelf.write(f"{key}", bytes([key]) * 20_000)
"""


def test_several_processes_at_once_and_a_kill_leave_only_whole_files(tmp_path: Path) -> None:
    folder = tmp_path / "shelf"
    shelf = Shelf(folder, ".x", 200_000)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(folder), str(n)], stdout=-1)
        for n in (0, 5, 10)
    ]
    found = 0
    try:
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline()
        until = time.monotonic() + 2
        while time.monotonic() < until:
            for key in range(16):
                data = shelf.read(f"{key}")
                assert data in (None, bytes([key]) * 20_000)
                found += data is not None
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            assert writer.stdout is not None
            writer.stdout.close()
    assert found
    assert {file.stat().st_size for file in folder.glob("*.x")} == {20_000}


def test_what_a_killed_process_left_half_written_goes_after_a_while(tmp_path: Path) -> None:
    old, new = tmp_path / ".vlm-0123456789abcdef", tmp_path / ".vlm-fedcba9876543210"
    old.write_bytes(bytes(10))
    new.write_bytes(bytes(10))
    os.utime(old, (0, 0))
    Shelf(tmp_path, ".x", 16_000).write("one", b"1")
    assert not old.exists() and new.exists()


# ---- encoders that give something else


class Model(torch.nn.Module):
    """As much of a model as is looked at."""

    config = type("Config", (), {"is_encoder_decoder": False})()
    main_input_name = "input_ids"

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output, self.calls = output, 0

    @property
    def base_model(self) -> "Model":
        return self

    def is_remote_code(self) -> bool:
        return False

    def get_encoder(self, modality: str) -> "Model":
        return self

    def get_image_features(self, pixel_values: torch.Tensor, **kwargs: Any) -> Any:
        self.calls += 1
        return self.output


@pytest.mark.parametrize(
    "output",
    [(torch.ones(1, 2),), torch.ones(1, 2), ModelOutput(pooler_output=torch.ones(1)), "text"],
)
def test_what_cannot_be_kept_is_given_as_it_is(output: Any) -> None:
    model = Model(output)
    encoders.watch(model, lambda encoder, given: encoder.taken(output) and "known")
    for calls in (1, 2):
        assert model.get_image_features(torch.ones(1)) is output
        assert model.calls == calls


def test_what_was_left_out_is_made_when_it_is_read() -> None:
    whole = BaseModelOutputWithPooling(torch.zeros(1, 3), torch.ones(1, 2))
    encoder = encoders.Encoder("x", lambda: whole, ("hidden_state",), splits=True)
    given = encoder.taken(whole)
    assert given is not None
    calls: list[int] = []
    known: Any = encoders.Known(given, lambda: calls.append(1) or whole)  # type: ignore[func-returns-value]
    assert known.pooler_output.equal(torch.ones(1, 2))
    assert known.attentions is None and known["hidden_states"] is None
    assert not hasattr(known, "deepstack_features") and calls == []
    assert known.last_hidden_state is whole.last_hidden_state
    assert known[0] is whole.last_hidden_state and len(known) == len(whole)
    assert calls == [1]


def test_inputs_of_which_a_list_may_be_about_each_picture_are_not_taken_apart() -> None:
    given = {"pixel_values": torch.zeros(2, 3, 4, 4), "image_sizes": [[4, 4], [4, 3]]}
    assert len(pieces.split(given, [1, 1]).parts) == 1
    assert len(pieces.split({**given, "image_sizes": None}, [1, 1]).parts) == 2


def test_an_encoder_that_refuses_one_picture_is_given_them_all(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = LlavaModel.get_image_features

    @functools.wraps(encode)
    def all_or_none(self: Any, pixel_values: torch.Tensor, **kwargs: Any) -> Any:
        if len(pixel_values) == 1:
            raise ValueError("two pictures, please")
        return encode(self, pixel_values, **kwargs)

    monkeypatch.setattr(LlavaModel, "get_image_features", all_or_none)
    both = picture("red"), picture("green")
    assert ask(tiny("llava"), *both) == ask(tiny("llava"), *both, cache=False)
