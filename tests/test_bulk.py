"""`vlm caption -o FILE` and `vlm ask --each`: a record a picture, skipped when it is there."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet
import pytest
from bulk_here import dots, records
from conftest import FakeEngine, Run, draw
from PIL import Image
from terminal import spawn
from test_app import FAKE

from vlmcli.errors import DeviceError

FORMS = ("jsonl", "csv", "parquet")


def rows(file: Path) -> list[dict[str, object]]:
    """What a reader of such files sees."""
    if file.suffix == ".jsonl":
        return records(file)
    if file.suffix == ".parquet":
        return pyarrow.parquet.read_table(file).to_pylist()  # type: ignore[no-any-return]
    with file.open(newline="") as text:
        return [*csv.DictReader(text, strict=True)]


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A folder of two pictures and a damaged one."""
    folder = tmp_path / "pictures"
    dots(folder, 3, damaged=[1])
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_a_record_a_picture_is_written_and_the_next_run_skips_it(
    run: Run, tmp_path: Path, three: Path, fake_engine: FakeEngine, form: str
) -> None:
    fake_engine.answers = ('One,\n"quoted".', "Zwei ü 🦊.")
    out = tmp_path / f"out.{form}"

    code, printed, err = run("caption", three, "-o", out)
    assert (code, printed) == (3, "")
    assert "0001.png: not a readable picture" in err.splitlines()[0]
    assert err.splitlines()[1] == (
        "vlm: 2 done, 0 skipped, 1 failed; the same command tries them again"
    )
    first, bad, last = rows(out)
    assert [row["file"] for row in (first, bad, last)] == [str(f) for f in sorted(three.iterdir())]
    assert (first["text"], last["text"]) == ('One,\n"quoted".', "Zwei ü 🦊.")
    assert "cut short" in str(bad["error"]) and not bad.get("text")
    assert first["model"] == "fake" and int(str(first["width"])) == 8
    assert len(str(first["sha256"])) == 64 and "one short sentence" in str(bad["prompt"])

    before, loads = rows(out), len(fake_engine.loads)
    code, printed, err = run("caption", three, "-o", out)
    assert (code, printed) == (3, "")
    assert err.splitlines()[1].startswith("vlm: 0 done, 2 skipped, 1 failed")
    assert rows(out) == before
    assert (len(fake_engine.calls), len(fake_engine.loads)) == (2, loads)


@pytest.mark.parametrize("form", FORMS)
def test_what_failed_is_tried_again_and_its_failure_goes(
    run: Run, tmp_path: Path, three: Path, fake_engine: FakeEngine, form: str
) -> None:
    out = tmp_path / f"out.{form}"
    run("caption", three, tmp_path / "nowhere.png", "-o", out)
    assert [bool(row.get("error")) for row in rows(out)] == [False, True, False, True]

    draw(three / "0001.png")
    code, _, err = run("caption", three, "-o", out)

    assert (code, err) == (0, "vlm: 1 done, 2 skipped, 0 failed\n")
    texts = {Path(str(row["file"])).name: row.get("text") or "" for row in rows(out)}
    assert texts == {
        "0000.png": "A red square.",
        "0002.png": "A red square.",
        "nowhere.png": "",  # it was not asked for this time, so its failure stays
        "0001.png": "A red square.",
    }


def test_a_damaged_file_that_is_named_keeps_its_failure(
    run: Run, tmp_path: Path, three: Path, fake_engine: FakeEngine
) -> None:
    out = tmp_path / "out.jsonl"
    for _ in range(2):
        assert run("caption", three / "0001.png", three / "0000.png", "-o", out)[0] == 3
        assert ["error" in record for record in records(out)] == [True, False]


@pytest.mark.parametrize("form", FORMS)
def test_a_prompt_of_odd_characters_is_known_again(
    run: Run, tmp_path: Path, picture: Path, fake_engine: FakeEngine, form: str
) -> None:
    out = tmp_path / f"out.{form}"
    odd = ["-p", 'What,\r\n"else"\x1b\x85\u202e?', "--stop", "\x9f\r", "-s", "ü\t"]
    assert "1 done" in run("caption", picture, *odd, "-o", out)[2]
    assert "1 skipped" in run("caption", picture, *odd, "-o", out)[2]


def test_another_failure_takes_the_place_of_the_first(
    run: Run, tmp_path: Path, three: Path, fake_engine: FakeEngine
) -> None:
    out = tmp_path / "out.jsonl"
    run("caption", three, "-o", out)
    (three / "0001.png").write_text("no picture at all")
    run("caption", three, "-o", out)

    (failure,) = [record for record in records(out) if "error" in record]
    assert "not a picture" in str(failure["error"])


def test_another_question_setting_or_model_is_asked_anew_and_both_stay(
    run: Run,
    tmp_path: Path,
    picture: Path,
    fake_engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out.jsonl"
    for more in ([], ["-p", "Colours?"], ["-n", "9"], ["--lang", "ja"], ["--stop", "x"]):
        for again in (1, 0):
            code, _, err = run("caption", picture, "-o", out, *more)
            assert code == 0 and f"{again} done, {1 - again} skipped" in err
            other = "there are other answers about some of these pictures" in err
            assert other == (again == 1 and more != [])
    assert len(records(out)) == len(fake_engine.calls) == 5

    monkeypatch.setattr("vlmcli.backends.identify", lambda settings: ("fake", "another commit"))
    assert "1 done" in run("caption", picture, "-o", out)[2]


def test_a_picture_that_changed_is_asked_anew(
    run: Run, tmp_path: Path, picture: Path, fake_engine: FakeEngine
) -> None:
    out = tmp_path / "out.jsonl"
    run("caption", picture, "-o", out)
    os.utime(picture, (0, 0))
    assert "1 skipped" in run("caption", picture, "-o", out)[2]
    draw(picture, colour="green")
    assert "1 done" in run("caption", picture, "-o", out)[2]
    assert len({record["sha256"] for record in records(out)}) == 2


@pytest.mark.parametrize("form", FORMS)
def test_a_copy_has_its_own_record_and_the_model_is_not_asked_twice(
    run: Run, tmp_path: Path, picture: Path, fake_engine: FakeEngine, form: str
) -> None:
    out = tmp_path / f"out.{form}"
    copy = tmp_path / "copy.png"
    copy.write_bytes(picture.read_bytes())
    run("caption", picture, copy, "-o", out)
    picture.rename(tmp_path / "moved.png")
    run("caption", tmp_path / "moved.png", "-o", out)

    assert len(fake_engine.calls) == 1
    found = rows(out)
    names = [Path(str(row.pop("file"))).name for row in found]
    assert names == ["photo.png", "copy.png", "moved.png"]
    assert found[0] == found[1] == found[2]


def test_every_spelling_of_a_path_is_one_file(
    run: Run,
    tmp_path: Path,
    picture: Path,
    fake_engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (picture, "photo.png", "./photo.png", "."):
        run("caption", name, "-o", "out.jsonl")
    assert len(records(tmp_path / "out.jsonl")) == 1


def test_pages_of_a_pdf_have_a_record_each(
    run: Run, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    pages = [Image.new("RGB", (60, 80), colour) for colour in ("red", "green", "blue")]
    file, out = tmp_path / "doc.pdf", tmp_path / "out.jsonl"
    pages[0].save(file, save_all=True, append_images=pages[1:])

    assert "1 done" in run("caption", f"{file}#page=2", "-o", out)[2]
    assert "2 done, 1 skipped" in run("caption", file, "-o", out)[2]
    assert [record["file"] for record in records(out)] == [f"{file}#page={n}" for n in (2, 1, 3)]
    assert len(fake_engine.calls) == 3


def test_ask_each_asks_about_each_picture_alone(
    run: Run, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    a, b = draw(tmp_path / "a.png"), draw(tmp_path / "b.png", (30, 30))
    fake_engine.answers = ("A.", "B.")

    assert run("ask", tmp_path, "what?", "--each")[1] == f"{a}\tA.\n{b}\tB.\n"
    assert [len(conversation[-1].images) for conversation, _ in fake_engine.calls] == [1, 1]
    assert run("ask", a, "--each", "-p", "what?")[1] == "B.\n"

    out = tmp_path / "out.csv"
    assert run("ask", "-i", a, b, "what?", "--each", "-o", out)[:2] == (0, "")
    assert [(row["file"], row["prompt"]) for row in rows(out)] == [
        (str(b), "what?"),
        (str(a), "what?"),
    ]


ODD = (b"two words.png", b"new\nline.png", "fox 🦊.png".encode(), b"caf\xe9.png", b'"q",\r.png')


@pytest.mark.parametrize("form", FORMS)
def test_odd_names_have_their_record_once(
    run: Run, tmp_path: Path, fake_engine: FakeEngine, form: str
) -> None:
    folder, out = tmp_path / "odd", tmp_path / f"out.{form}"
    folder.mkdir()
    for number, name in enumerate(ODD):
        draw(folder / os.fsdecode(name), (20, 20 + number))
    for _ in range(2):
        code, _, err = run("caption", folder, "-o", out)
    assert (code, err) == (0, "vlm: 0 done, 5 skipped, 0 failed\n")

    names = {Path(str(row["file"])).name for row in rows(out)}
    expected = {os.fsdecode(name) for name in ODD}
    if form == "jsonl":
        assert names == expected and all((folder / name).is_file() for name in names)
    else:  # a table is UTF-8
        assert names == expected - {"caf\udce9.png"} | {r"caf\udce9.png"}


def test_a_list_names_the_pictures(
    run: Run, tmp_path: Path, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [draw(tmp_path / os.fsdecode(name)) for name in ODD]
    listed = b"".join(os.fsencode(path) + b"\0" for path in paths)
    (tmp_path / "names").write_bytes(
        listed.removesuffix(b"\0")
    )  # as find would not, and a hand may

    for where, stdin in ((tmp_path / "names", b""), ("-", listed)):
        code, printed, _ = run("caption", "--files0-from", where, "--json", stdin=stdin)
        assert code == 0
        named = [json.loads(line)["file"] for line in printed.splitlines()]
        assert named == [str(path) for path in paths]
    lines = f"{paths[0]}\n\n{tmp_path / 'gone.png'}\n{paths[2]}\n".encode()
    code, printed, err = run("ask", "what?", "--each", "--files-from", "-", stdin=lines)
    assert code == 3 and len(printed.splitlines()) == 2 and "gone.png: no such file" in err
    assert run("caption", "--files0-from", "-", stdin=b"") == (0, "", "")
    for more in ([], ["-o", tmp_path / "out.csv"]):
        code, printed, err = run("caption", "--files-from", "nowhere", *more)
        assert (code, printed, err) == (3, "", "vlm: nowhere: no such file or directory\n")
    code, _, err = run("caption", "--files0-from", "-", stdin=b"a.png\n" * 300_000)
    assert code == 2 and "--files0-from reads names that end with NUL, --files-from lines" in err


def test_a_list_is_worked_through_as_it_comes(tmp_path: Path, picture: Path) -> None:
    out = tmp_path / "out.jsonl"
    script = FAKE.format(deltas=1, pause=0)
    command = [sys.executable, "-c", script, "caption", "--files0-from", "-", "-o", str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdin is not None
        for number in range(1, 4):
            (tmp_path / f"{number}.png").write_bytes(picture.read_bytes() + bytes(number))
            running.stdin.write(os.fsencode(tmp_path / f"{number}.png") + b"\0")
            running.stdin.flush()
            deadline_s = time.monotonic() + 20
            while len(records(out)) < number:
                assert time.monotonic() < deadline_s
                time.sleep(0.01)
    assert running.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-o", "out.txt"], "out.txt: the suffix names no form of it; use .jsonl, .csv or .parq"),
        (["-o", "nowhere/out.csv"], "there is no such folder"),
        (["-o", "folder.jsonl"], "it is no file"),
        (["-o", f"{'x' * 250}.jsonl"], "file name too long"),
        (["--force"], "--force is for --sidecar"),
        (["--sidecar", "doc"], "no such kind: doc; txt, json, xmp"),
        (["--files0-from", "-"], "both name pictures"),
        (["--sidecar", "txt", "-o", "x"], "the suffix names no form"),
    ],
)
def test_where_the_answers_cannot_go_is_told_before_any_work(
    run: Run,
    tmp_path: Path,
    picture: Path,
    fake_engine: FakeEngine,
    arguments: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.jsonl").mkdir()
    code, printed, err = run("caption", picture, *arguments)

    assert (code, printed) == (2, "") and says in err and err.count("\n") == 1
    assert fake_engine.calls == []
    assert {path.name for path in tmp_path.iterdir()} == {"photo.png", "folder.jsonl"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-o", "out.csv"], "add --each"),
        (["--sidecar", "txt"], "add --each"),
        (["--each", "--messages", "x.json"], "leave out files, -i, -p, -T, -r, -o, --each"),
    ],
)
def test_ask_without_each_has_one_answer(
    run: Run, picture: Path, arguments: list[str], says: str
) -> None:
    files = [] if "--messages" in arguments else [picture, "what?"]
    code, _, err = run("ask", *files, *arguments)
    assert code == 2 and says in err


STRANGE = {
    "jsonl": (
        b"some notes of mine",
        b'{"file": "a.png", "caption": "mine"}\n',
        b'{"file": "a.png", "caption": "mine"}',
        b"[1, 2]\n",
        b'{"file": "a.png"',
        b'{"name": "a',
        b'{"start": 0, "end": 1, "text": "t", "file": "clip.mp4"}\n',
        b"\xff\xfe\n",
    ),
    "csv": (b"file,text\na.png,mine\n", b"name\n", b"some notes", b'"file"'),
    "parquet": (b"PAR1 but no table", b"", b"x"),
}


@pytest.mark.parametrize(
    ("form", "content"), [(form, c) for form, contents in STRANGE.items() for c in contents]
)
def test_a_file_that_holds_something_else_is_left_alone(
    run: Run, tmp_path: Path, picture: Path, fake_engine: FakeEngine, form: str, content: bytes
) -> None:
    out = tmp_path / f"out.{form}"
    out.write_bytes(content)
    code, _, err = run("caption", picture, "-o", out)
    if content == b'{"file": "a.png"':  # as a kill leaves it
        assert code == 0 and len(records(out)) == 1
        return
    assert code == 2 and "name another file with -o, or remove this one" in err
    assert out.read_bytes() == content and fake_engine.calls == []
    assert {path.name for path in tmp_path.iterdir()} == {"photo.png", out.name}


def test_a_parquet_of_other_columns_is_left_alone(
    run: Run, tmp_path: Path, picture: Path, fake_engine: FakeEngine
) -> None:
    out = tmp_path / "out.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"file": ["a.png"], "mine": [1]}), out)
    before = out.read_bytes()
    code, _, err = run("caption", picture, "-o", out)
    assert code == 2 and "its columns are not those that vlm writes" in err
    assert out.read_bytes() == before


def test_without_pyarrow_the_error_names_the_package(
    run: Run, tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = run("caption", picture, "-o", tmp_path / "out.parquet")
    assert code == 2 and err.endswith('; pip install "vlmcli[parquet]"\n')


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_cut_off_at_any_byte_it_goes_on(
    run: Run, tmp_path: Path, fake_engine: FakeEngine, form: str
) -> None:
    fake_engine.answers = ('Ü, "a"\nb.',)
    files, out = dots(tmp_path / "dots", 2), tmp_path / f"out.{form}"
    run("caption", tmp_path / "dots", "-o", out)
    whole = out.read_bytes()
    after_first = whole.index(os.fsencode(files[1])) - (0 if form == "csv" else len(b'{"file": "'))
    cuts = {*range(0, len(whole), 23), *range(after_first - 12, after_first + 40)}
    for cut in sorted(cuts | {len(whole) - 2, len(whole) - 1}):
        out.write_bytes(whole[:cut])
        code, _, err = run("caption", tmp_path / "dots", "-o", out)
        assert code == 0, (cut, err)
        assert out.read_bytes() == whole, cut
        done = 2 if cut < after_first - 1 or (form == "csv" and cut < after_first) else 1
        assert f"{done} done" in err or cut in (after_first - 1, len(whole) - 1), (cut, err)


def test_what_vlm_printed_as_json_can_be_gone_on_with(
    run: Run, tmp_path: Path, picture: Path, fake_engine: FakeEngine
) -> None:
    other, out = draw(tmp_path / "other.png", colour="green"), tmp_path / "out.jsonl"
    out.write_text(run("caption", picture, "--json")[1])
    assert "1 done, 1 skipped" in run("caption", picture, other, "-o", out)[2]


def test_a_picture_too_much_for_the_model_stops_no_other(
    run: Run, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    dots(tmp_path / "dots", 30)
    answer = fake_engine.generate

    def generate(conversation: object, sampling: object) -> object:
        if len(fake_engine.calls) % 2:
            fake_engine.calls.append((conversation, sampling))  # type: ignore[arg-type]
            raise DeviceError("out of memory", hint="a smaller picture")
        yield from answer(conversation, sampling)  # type: ignore[arg-type]

    fake_engine.generate = generate  # type: ignore[assignment,method-assign]
    code, _, err = run("caption", tmp_path / "dots", "-o", tmp_path / "out.jsonl")
    assert code == 3 and "vlm: 15 done, 0 skipped, 15 failed" in err
    assert "0001.png: out of memory; a smaller picture" in err


def test_a_device_that_fails_at_every_picture_ends_the_run(
    run: Run, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    dots(tmp_path / "dots", 30)

    def generate(conversation: object, sampling: object) -> object:
        raise DeviceError("out of memory")
        yield

    fake_engine.generate = generate  # type: ignore[assignment,method-assign]
    code, _, err = run("caption", tmp_path / "dots", "-o", tmp_path / "out.jsonl")
    assert code == 5
    assert err.splitlines()[-2:] == [
        "vlm: stopped: 0 done, 0 skipped, 19 failed; the same command goes on from here",
        "vlm: out of memory",
    ]


def test_the_built_in_model_is_known_again_without_its_weights(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from conftest import DATA

    from vlmcli import backends

    out = tmp_path / "out.jsonl"
    assert (
        run("ask", DATA / "chart.png", "highest bar?", "--each", "-m", "builtin", "-o", out)[0] == 0
    )
    assert records(out)[0]["text"] == "C"

    def load(settings: object) -> None:
        raise AssertionError("loaded for nothing")

    monkeypatch.setattr(backends, "load", load)
    code, _, err = run(
        "ask", DATA / "chart.png", "highest bar?", "--each", "-m", "builtin", "-o", out
    )
    assert (code, err) == (0, "vlm: 0 done, 1 skipped, 0 failed\n")


def test_the_bar_tells_rate_total_and_failures(tmp_path: Path) -> None:
    dots(tmp_path / "dots", 12, damaged=[3])
    script = (
        "import sys, time\n"
        "from vlmcli import backends\n"
        "from vlmcli.app import run\n"
        "from vlmcli.backends import Engine\n"
        "from vlmcli.messages import Delta, Done\n"
        "def generate(conversation, sampling):\n"
        "    time.sleep(0.15)\n"
        "    yield Delta('A dot.')\n"
        "    yield Done('stop', 1, 1, 1, 0.1, 0.1)\n"
        "backends.load = lambda settings: Engine('fake', 'cpu', 'float32', generate)\n"
        "run()\n"
    )
    out = tmp_path / "out.jsonl"
    command = [sys.executable, "-c", script, "caption", str(tmp_path / "dots"), "-o", str(out)]
    terminal = spawn(command)
    assert terminal.wait(20) == 3
    for seen in ("/12", "/s", "0:00:0", "1 failed"):
        assert seen in terminal.text
    assert terminal.screen()[-1].startswith("vlm: 11 done, 0 skipped, 1 failed")


LISTING = """
import sys, tracemalloc
from vlmcli.inputs.arguments import Named
from vlmcli.inputs.listing import found
tracemalloc.start()
count = sum(1 for _ in found(Named((sys.argv[1],), recursive=True)))
print(count, tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.slow
def test_a_hundred_thousand_pictures_are_listed_in_little_memory(tmp_path: Path) -> None:
    for folder in range(10):
        (tmp_path / f"{folder}").mkdir()
        for number in range(10_000):
            os.close(os.open(tmp_path / f"{folder}/{number:05}.png", os.O_CREAT))
    listed = subprocess.run(
        [sys.executable, "-c", LISTING, str(tmp_path)], capture_output=True, text=True, check=True
    )
    count, peak_bytes = map(int, listed.stdout.split())
    assert count == 100_000
    assert peak_bytes < 5_000_000


def test_answers_that_were_drawn_at_random_are_done_too_and_can_be_replayed(
    run: Run, picture: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    drawn = ("caption", picture, "-o", out, "-m", "builtin", "-n", 8, "-t", 3)
    assert run(*drawn)[0] == 0
    assert "0 done, 1 skipped" in run(*drawn)[2]
    assert run("replay", out)[0] == 0


def test_other_weights_in_the_same_folder_are_asked_anew(
    run: Run, picture: Path, tmp_path: Path, tiny: Callable[[str], Path]
) -> None:
    folder = shutil.copytree(tiny("idefics3"), tmp_path / "model")
    asks = ("caption", picture, "-o", tmp_path / "out.csv", "-m", folder, "-n", 2)
    assert "1 done" in run(*asks)[2]
    assert "1 skipped" in run(*asks)[2]
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert "1 done" in run(*asks)[2]


def test_records_of_videos_and_chats_are_not_taken_for_those_of_pictures(
    run: Run, picture: Path, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    out = tmp_path / "kept.jsonl"
    for other in ({"start": 0, "end": 2}, {"clips": []}, {"messages": []}, {"statement": "a"}):
        kept = json.dumps({"file": str(picture), "text": "Red.", "sha256": "0" * 64, **other})
        out.write_text(f"{kept}\n")
        code, _, err = run("caption", picture, "-o", out)
        assert code == 2 and out.read_text() == f"{kept}\n" and err
