"""What a typed line is found to name, and which words are left of it."""

from pathlib import Path

import pytest
from conftest import draw

from vlmcli.chat import lines
from vlmcli.chat.lines import Line


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with pictures of many names, a text, a clip and a folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "b.png", "My cat.png", "it's (1).png", "sub/c.png", "scan"):
        (draw(tmp_path / "drawn.png")).rename(tmp_path / name)
    (tmp_path / "notes").write_text("words\n")
    (tmp_path / "index.ts").write_text("export const x = 1\n")
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "words", "arguments"),
    [
        ("what is it?", "what is it?", ()),
        # before the words, or behind a sentence: no part of them
        ("a.png what is it?", "what is it?", ("a.png",)),
        ("a.png b.png which is redder?", "which is redder?", ("a.png", "b.png")),
        ("a.png, b.png: same?", "same?", ("a.png", "b.png")),
        ("what is it? a.png", "what is it?", ("a.png",)),
        ("what is it? a.png b.png", "what is it?", ("a.png", "b.png")),
        ("a.png", "", ("a.png",)),
        ("  a.png   b.png ", "", ("a.png", "b.png")),
        # within them, its name stays
        ("what is in a.png?", "what is in a.png?", ("a.png",)),
        ("compare sub/c.png and ~/b.png.", "compare c.png and b.png.", ("sub/c.png", "~/b.png")),
        ("(see a.png)", "(see a.png)", ("a.png",)),
        # the ways of quoting, as terminals do when a file is dropped
        ("My\\ cat.png who?", "who?", ("My cat.png",)),
        ("'My cat.png' who?", "who?", ("My cat.png",)),
        ('"My cat.png" who?', "who?", ("My cat.png",)),
        ('"it\'s (1).png" who?', "who?", ("it's (1).png",)),
        ("it\\'s\\ \\(1\\).png", "", ("it's (1).png",)),
        ("My cat.png", "", ("My cat.png",)),
        ("./My cat.png who?", "who?", ("./My cat.png",)),
        ("who is in ./My cat.png?", "who is in My cat.png?", ("./My cat.png",)),
        ("file:///x/My%20cat.png who?", "who?", ("/x/My cat.png",)),
        # no quotation marks: an apostrophe
        ("what's in a.png, isn't it red?", "what's in a.png, isn't it red?", ("a.png",)),
        ("'tis a.png", "'tis a.png", ("a.png",)),
        # URLs, data, the clipboard
        ("https://x.org/y.jpg?w=1 what?", "what?", ("https://x.org/y.jpg?w=1",)),
        ("what is https://x.org/y.jpg?", "what is y.jpg?", ("https://x.org/y.jpg",)),
        ("see https://x.org/A_(b), ok", "see A_(b), ok", ("https://x.org/A_(b)",)),
        ("clip: what does it say?", "what does it say?", ("clip:",)),
        ("what is on clip: now", "what is on the clipboard now", ("clip:",)),
        ("data:image/png;base64,QUJD what?", "what?", ("data:image/png;base64,QUJD",)),
        # pages, globs, folders, contents
        ("x.pdf#page=2 total?", "total?", ("x.pdf#page=2",)),
        ("a.png#page=1", "", ("a.png#page=1",)),
        ("*.png same?", "same?", ("*.png",)),
        ("./sub/", "", ("./sub/",)),
        ("what is in ./sub/ now", "what is in ./sub/ now", ()),
        ("scan what?", "what?", ("scan",)),
        ("clip.mp4 what happens?", "what happens?", ("clip.mp4",)),
        # missing, and surely meant: reading it will say so
        ("nope.png what?", "what?", ("nope.png",)),
        ("what is in nope.jpeg?", "what is in nope.jpeg?", ("nope.jpeg",)),
        ("/no/such.png", "", ("/no/such.png",)),
        ("nope.mp4?", "?", ("nope.mp4",)),
        # words all the same
        ("what are .png files?", "what are .png files?", ()),
        ("explain notes and index.ts, or main.ts", "explain notes and index.ts, or main.ts", ()),
        ("and/or 1/2 / https:// x", "and/or 1/2 / https:// x", ()),
        ("`a.png` is a name", "`a.png` is a name", ()),
        ("```\nopen('a.png')\n``` why?", "```\nopen('a.png')\n``` why?", ()),
        ("an odd ` tick a.png", "an odd ` tick a.png", ("a.png",)),
        ("a\0.png \\", "\\", ("a\0.png",)),
        ("x" * 5000, "x" * 5000, ()),
    ],
)
def test_a_line_is_words_and_what_they_are_about(
    typed: str, words: str, arguments: tuple[str, ...]
) -> None:
    assert lines.read(typed) == Line(words, arguments)


def test_lines_of_a_multi_line_question_name_things_too() -> None:
    assert lines.read("describe\na.png\nin two words") == Line(
        "describe\na.png\nin two words", ("a.png",)
    )


def test_where_a_name_stands_is_told_for_the_screen() -> None:
    found = lines.found_in("what is in 'My cat.png'?")

    assert [(one.start, one.end, one.argument) for one in found] == [(11, 23, "My cat.png")]


@pytest.mark.parametrize(
    ("typed", "is_open", "bare"),
    [
        ('"""', True, ""),
        ('"""a\nb', True, "a\nb"),
        ('  """a\nb"""', False, "a\nb"),
        ('""""""', False, ""),
        ('a """ b', False, 'a """ b'),
        ("plain", False, "plain"),
    ],
)
def test_three_quotes_go_around_several_lines(typed: str, is_open: bool, bare: str) -> None:
    assert (lines.is_open(typed), lines.unquoted(typed)) == (is_open, bare)
