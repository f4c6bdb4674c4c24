"""The manual page in completions/, which is made from the app."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from vlmcli import manual
from vlmcli.app import COMMANDS, app
from vlmcli.errors import ExitCode
from vlmcli.settings import TABLE

PAGE = Path(__file__).parent.parent / "completions/vlm.1"


@pytest.fixture(scope="module")
def sections() -> dict[str, str]:
    """The page as it is read, by heading, but for where its lines break."""
    _, *parts = re.split(r"^\.S[HS] ", manual.page(), flags=re.MULTILINE)
    return {read(part.partition("\n")[0]): read(part.partition("\n")[2]) for part in parts}


def read(roff: str) -> str:
    named = {r"\-": "-", r"\(aq": "'", r"\(ga": "`", r"\(ha": "^", r"\(ti": "~", r"\e": "\\"}
    text = re.sub(r"^\..*$|\\f[BIR]|\\&", "", roff, flags=re.MULTILINE)
    text = re.sub(r"\\\[u([0-9A-F]+)\]", lambda found: chr(int(found[1], 16)), text)
    text = re.sub(r"\\(\(..|.)", lambda found: named[found[0]], text)
    return " ".join(text.split())


def test_the_page_in_the_repository_is_that_of_the_app(tmp_path: Path) -> None:
    """Stale? python -m vlmcli.manual completions"""
    manual.write(tmp_path)
    assert PAGE.read_text() == (tmp_path / "vlm.1").read_text()


def test_every_command_is_told_with_its_options_and_its_example(sections: dict[str, str]) -> None:
    found = [(path, command) for path, command, _ in manual.commands(get_command(app), "vlm")]
    assert {*COMMANDS} <= {path.removeprefix("vlm ") for path, _ in found}
    assert "vlm models pull" in dict(found)
    for path, command in found:
        told = sections[path]
        assert f"{path} " in sections["SYNOPSIS"]
        assert " ".join(command.help.split("Example: ")[1].split()) in told
        for parameter in (p for p in command.params if p.name not in TABLE):
            assert [flag for flag in parameter.opts if flag[0] == "-" and flag not in told] == []
            assert (parameter.help or "") in told


def test_every_setting_is_told_with_its_flags_and_its_variable(sections: dict[str, str]) -> None:
    for name, declared in TABLE.items():
        told = sections[declared.metadata["panel"]]
        assert f"(VLM_{name.upper()})" in told and declared.metadata["help"] in told
        assert all(flag in told for flag in "/".join(declared.metadata["flags"]).split("/"))


def test_a_command_says_which_settings_it_takes_and_which_it_spells_otherwise(
    sections: dict[str, str],
) -> None:
    assert "All the SETTINGS below." in sections["vlm caption"]
    assert "Of the SETTINGS below: --json." in sections["vlm models ls"]
    grep = sections["vlm grep"]
    assert "-M, --model TEXT Folder, " in grep and "-m, --max-count NUM " in grep
    assert "Of the SETTINGS below: --revision, " in grep


def test_every_exit_code_is_told(sections: dict[str, str]) -> None:
    told = re.findall(r"(?:^|[.] )(\d+) ", sections["EXIT STATUS"])
    assert told == [f"{code:d}" for code in ExitCode]


def test_no_text_is_taken_for_a_request_or_an_escape() -> None:
    """A line of help that begins with .jpg would vanish, and a backslash eat what follows."""
    page = manual.page()
    assert page.isascii()
    requests = {line.split()[0] for line in page.splitlines() if line.startswith((".", "'"))}
    assert requests <= {
        r".\"", ".TH", ".SH", ".SS", ".PP", ".TP", ".RS", ".RE", ".EX", ".EE", ".br", ".ad", ".nr"
    }  # fmt: skip
    body = page.partition("\n")[2]
    escapes = set(re.findall(r"\\(?:\[u[0-9A-F]{4,6}\]|f[BIR]|\(..|.)", body))
    known = {r"\-", r"\(aq", r"\(ga", r"\(ha", r"\(ti", r"\e", r"\&", r"\fB", r"\fI", r"\fR"}
    assert {escape for escape in escapes if not escape.startswith(r"\[u")} <= known


@pytest.mark.skipif(not shutil.which("mandoc"), reason="needs mandoc")
def test_mandoc_finds_nothing_but_that_there_is_no_date() -> None:
    """A date would make every page stale the day after."""
    command = ["mandoc", "-Tlint", str(PAGE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = [line for line in done.stdout.splitlines() if "missing date" not in line]
    assert told == []


@pytest.mark.skipif(not shutil.which("man"), reason="needs man")
@pytest.mark.parametrize("columns", ["40", "80"])
def test_man_shows_it_without_a_warning(columns: str) -> None:
    done = subprocess.run(
        ["man", "--warnings", "-P", "cat", "-l", str(PAGE)],
        env={"MANWIDTH": columns, "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    shown = " ".join(done.stdout.split())
    assert "-0, -Z, --null A NUL after each name, for xargs -0." in shown
    assert "jq -r '[.file, .text] | @tsv'" in shown
    assert "warning" not in done.stderr
