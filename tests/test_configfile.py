"""Writing config.toml: what was there stays, and it is written whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vlmcli import configfile
from vlmcli.errors import OutputError, UsageError

TEXT = '# top\nlang = "de" # why not\n\n[aliases]\n# mine\nx = "owner/x"\n'


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    there = tmp_path / "config.toml"
    monkeypatch.setenv("VLM_CONFIG", str(there))
    return there


def test_a_value_goes_above_the_tables_and_everything_else_stays(file: Path) -> None:
    file.write_text(TEXT)
    configfile.put("model", "owner/name")
    assert configfile.settings() == {"lang": "de", "model": "owner/name"}
    assert configfile.aliases() == {"x": "owner/x"}
    assert [line for line in file.read_text().splitlines() if "model" not in line and line] == [
        line for line in TEXT.splitlines() if line
    ]
    configfile.put("model", "other/name")
    assert file.read_text().count("model") == 1
    assert configfile.drop("model") and not configfile.drop("model")
    assert file.read_text() == TEXT


def test_a_value_goes_into_a_table_which_is_made_and_removed_with_it(file: Path) -> None:
    file.write_text('lang = "de"\n')
    configfile.put("qwen3.5", 'owner/"x"', table="aliases")
    assert configfile.aliases() == {"qwen3.5": 'owner/"x"'}
    configfile.drop("qwen3.5", table="aliases")
    assert configfile.read_file(file) == {"lang": "de"}


def test_line_ends_and_letters_stay(file: Path) -> None:
    file.write_bytes('# für später\r\nlang = "日本語"\r\n'.encode())
    configfile.put("model", "owner/name")
    assert file.read_bytes().startswith('# für später\r\nlang = "日本語"\r\n'.encode())


def test_the_file_and_its_folder_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "new" / "folder" / "config.toml"
    monkeypatch.setenv("VLM_CONFIG", str(there))
    assert not configfile.drop("model") and not there.exists()
    configfile.put("model", "owner/name")
    assert there.read_text() == 'model = "owner/name"\n'
    assert [*there.parent.iterdir()] == [there]


def test_a_link_stays_a_link_and_rights_stay(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.toml"
    real.write_text(TEXT)
    real.chmod(0o640)
    file.symlink_to(real)
    configfile.put("model", "owner/name")
    assert file.is_symlink() and "model" in real.read_text()
    assert real.stat().st_mode & 0o777 == 0o640


def test_a_broken_file_is_named_and_left_alone(file: Path) -> None:
    file.write_text("model = ")
    for change in (lambda: configfile.put("model", "x"), lambda: configfile.drop("model")):
        with pytest.raises(UsageError, match="not TOML"):
            change()
    assert file.read_text() == "model = "


def test_a_place_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VLM_CONFIG", str(tmp_path / "file" / "config.toml"))
    with pytest.raises(OutputError, match="cannot be written"):
        configfile.put("model", "x")


def test_a_full_disk_leaves_the_file_as_it_was(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(TEXT)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match="no space left"):
        configfile.put("model", "x")
    assert file.read_text() == TEXT and [*file.parent.iterdir()] == [file]


def test_two_processes_leave_one_whole_file(file: Path) -> None:
    file.write_text(TEXT)
    code = "import sys; from vlmcli import configfile; configfile.put('model', sys.argv[1] * 9999)"
    running = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "ab"]
    assert [process.wait() for process in running] == [0, 0]
    assert configfile.settings()["model"] in ("a" * 9999, "b" * 9999)
    assert os.listdir(file.parent) == [file.name]  # noqa: PTH208
