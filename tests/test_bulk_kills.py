"""Bulk runs that are killed, started twice, or have no room: nothing is lost or twice."""

import csv
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet
import pytest
from bulk_here import Program, dots, program, records, said_of
from conftest import Run

KILLS = 20


def rows(file: Path) -> list[dict[str, object]]:
    if file.suffix == ".csv":
        with file.open(newline="") as text:
            return [*csv.DictReader(text, strict=True)]
    if file.suffix == ".parquet":
        return pyarrow.parquet.read_table(file).to_pylist()  # type: ignore[no-any-return]
    return records(file)


def check_valid(file: Path) -> None:
    """What stands there now can be read, but perhaps for a last record that breaks off."""
    if file.suffix == ".parquet":
        assert not file.exists() or rows(file)
        file = file.with_name(f"{file.name}.jsonl")
    if file.suffix == ".jsonl":
        records(file)
    elif file.exists():
        with file.open(newline="") as text:
            assert all("file" in row for row in csv.DictReader(text))


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_killed_twenty_times_it_loses_nothing_and_does_nothing_twice(
    tmp_path: Path, suffix: str
) -> None:
    bad = {*range(0, 150, 3)}
    files = dots(tmp_path / "dots", 150, damaged=[*bad])
    out = tmp_path / f"out.{suffix}"
    dice = random.Random(7)
    with program(tmp_path, pause_s=0.002) as vlm:
        for _ in range(KILLS):
            vlm.start("caption", tmp_path / "dots", "-o", out)
            time.sleep(dice.uniform(0.0, 0.08))
            check_valid(out)
            vlm.kill()
            assert vlm.wait() in (-signal.SIGKILL, 3)
            check_valid(out)
        assert vlm.run("caption", tmp_path / "dots", "-o", out) == 3
        found = rows(out)
        asked = vlm.calls.read_text().splitlines()

        assert sorted(str(row["file"]) for row in found) == [str(file) for file in files]
        for row in found:
            number = int(Path(str(row["file"])).stem)
            if number in bad:
                assert "cut short" in str(row["error"]) and not row.get("text")
            else:
                assert (row["text"], row.get("error") or "") == (said_of(number), "")
        assert len(set(asked)) == 100 and len(asked) <= 100 + KILLS

        for number in bad:  # mended
            files[number].unlink()
        dots(tmp_path / "fresh", 150)
        for number in bad:
            (tmp_path / "fresh" / files[number].name).rename(files[number])
        assert vlm.run("caption", tmp_path / "dots", "-o", out) == 0
    texts = {str(row["file"]): row["text"] for row in rows(out)}
    assert texts == {str(file): said_of(number) for number, file in enumerate(files)}
    assert len(rows(out)) == 150
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".vlm-")}
    assert left == {"calls", "dots", "fresh", f"out.{suffix}", "stderr"}


@pytest.mark.parametrize("kind", ["txt", "json", "xmp"])
def test_killed_at_any_moment_no_sidecar_is_half_written(tmp_path: Path, kind: str) -> None:
    files = dots(tmp_path / "dots", 60)
    dice = random.Random(kind)
    with program(tmp_path, pause_s=0.001) as vlm:
        sizes: dict[str, int] = {}
        for _ in range(KILLS):
            vlm.start("caption", tmp_path / "dots", "--sidecar", kind)
            time.sleep(dice.uniform(0.0, 0.05))
            vlm.kill()
            vlm.wait()
            now = {path.name: path.stat().st_size for path in (tmp_path / "dots").glob(f"*.{kind}")}
            assert sizes.items() <= now.items() and all(now.values())
            sizes = now
        assert vlm.run("caption", tmp_path / "dots", "--sidecar", kind) == 0
    written = [file.with_suffix(f".{kind}").read_text() for file in files]
    assert all(f"red {number % 256}" in text for number, text in enumerate(written))
    assert len(vlm.calls.read_text().splitlines()) <= 60 + KILLS


@pytest.fixture
def slow(tmp_path: Path) -> object:
    dots(tmp_path / "dots", 20)
    with program(tmp_path, pause_s=0.2) as vlm:
        yield vlm


def wait_for(file: Path) -> None:
    deadline_s = time.monotonic() + 10
    while not file.exists() or not file.stat().st_size:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_two_runs_on_one_output_refuse_each_other(
    run: Run, tmp_path: Path, slow: Program, suffix: str, fake_engine: object
) -> None:
    out = tmp_path / f"out.{suffix}"
    (tmp_path / f"link.{suffix}").symlink_to(out)
    slow.start("caption", tmp_path / "dots", "-o", out)
    wait_for(out if suffix != "parquet" else tmp_path / "out.parquet.jsonl")

    for name in (out, tmp_path / f"link.{suffix}"):
        code, printed, err = run("caption", tmp_path / "dots", "-o", name)
        assert (code, printed) == (2, "")
        assert err == (
            f"vlm: {out}: another run is writing it;"
            " wait until it ends, or name another file with -o\n"
        )
    slow.kill()
    slow.wait()
    assert run("caption", tmp_path / "dots", "-o", out)[0] == 0


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(
    tmp_path: Path, slow: Program, suffix: str
) -> None:
    out = tmp_path / f"out.{suffix}"
    slow.start("caption", tmp_path / "dots", "-o", out)
    wait_for(out if suffix == "jsonl" else tmp_path / "out.parquet.jsonl")
    time.sleep(0.1)  # it is at the next picture now
    slow.kill(signal.SIGINT)

    assert slow.wait() == 130
    done = len(rows(out))
    assert 1 <= done < 20
    told = f"vlm: stopped: {done} done, 0 skipped, 0 failed; the same command goes on from here\n"
    assert (tmp_path / "stderr").read_text() == told
    assert not (tmp_path / "out.parquet.jsonl").exists()


IN_LITTLE_ROOM = """
import resource, sys
from vlmcli import backends
from vlmcli.app import run
from vlmcli.backends import Engine
from vlmcli.messages import Delta, Done

def generate(conversation, sampling):
    yield Delta("A dot.")
    yield Done("stop", 1, 1, 1, 0.1, 0.1)

backends.load = lambda settings: Engine("fake", "cpu", "float32", generate)
backends.identify = lambda settings: ("fake", None)
room = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
try:
    run()
finally:  # what measures the coverage of lines writes at the end, too
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.parametrize("option", ["-o out.jsonl", "-o out.csv", "--sidecar json"])
def test_a_full_disk_ends_the_run_and_the_next_one_goes_on(tmp_path: Path, option: str) -> None:
    """A limit on the size of a file stands in for the disk: the write fails in the same way."""
    dots(tmp_path / "dots", 6)
    room = {"-o out.jsonl": 1500, "-o out.csv": 800}.get(option, 100)
    command = [sys.executable, "-c", IN_LITTLE_ROOM, str(room), "caption", "dots", *option.split()]

    def written() -> int:
        if option.startswith("-o"):
            return len(rows(tmp_path / option.split()[1]))
        return len([*(tmp_path / "dots").glob("*.json")])

    full = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert full.returncode == 74, full.stderr
    *stopped, told = full.stderr.splitlines()
    assert told.endswith("; file too large")
    done = written()
    assert done < 6 and bool(done) == option.startswith("-o")
    going_on = "0 skipped, 0 failed; the same command goes on from here"
    assert stopped == ([f"vlm: stopped: {done} done, {going_on}"] if done else [])
    assert not [*tmp_path.rglob(".*")]

    command[3] = "-1"
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    assert written() == 6
