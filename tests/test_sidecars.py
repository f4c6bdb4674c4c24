"""`--sidecar txt|json|xmp`: a small file beside each picture, whole and never over another."""

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bulk_here import dots, records
from conftest import FakeEngine, Run, draw
from PIL import Image

DC = "{http://purl.org/dc/elements/1.1/}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
LANG = "{http://www.w3.org/XML/1998/namespace}lang"


def descriptions(file: Path) -> dict[str, str]:
    """What an XMP says of the picture, by language."""
    items = ElementTree.parse(file).iterfind(f".//{DC}description/{RDF}Alt/{RDF}li")
    return {item.attrib[LANG]: item.text or "" for item in items}


def test_a_text_lies_beside_each_picture_and_stdout_is_empty(
    run: Run, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    fake_engine.answers = ("One\x1b[2J\nline.", "Two.")
    dots(tmp_path / "dots", 3, damaged=[1])
    code, printed, err = run("caption", tmp_path / "dots", "--sidecar", "txt")

    assert (code, printed) == (3, "")
    assert "vlm: 2 done, 0 skipped, 1 failed" in err
    assert (tmp_path / "dots/0000.txt").read_text() == "One[2J\nline.\n"
    assert (tmp_path / "dots/0002.txt").read_text() == "Two.\n"
    assert len([*(tmp_path / "dots").iterdir()]) == 5
    assert (tmp_path / "dots/0000.txt").stat().st_mode == (
        tmp_path / "dots/0000.png"
    ).stat().st_mode


def test_json_is_the_record(run: Run, picture: Path, fake_engine: FakeEngine) -> None:
    run("ask", picture, "what?", "--each", "--sidecar", "json")
    record = json.loads(picture.with_suffix(".json").read_text())
    assert (record["file"], record["text"], record["prompt"]) == (
        str(picture),
        "A red square.",
        "what?",
    )


def test_one_that_is_there_stays_and_its_picture_is_not_asked_about(
    run: Run, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    a, b = draw(tmp_path / "a.png"), draw(tmp_path / "b.png", colour="green")
    (tmp_path / "a.txt").write_text("mine")

    code, _, err = run("caption", a, b, "--sidecar", "txt")
    assert (code, len(fake_engine.calls)) == (0, 1)
    assert err == (
        "vlm: 1 done, 1 skipped, 0 failed\nvlm: 1 had a sidecar already; --force writes them anew\n"
    )
    assert (tmp_path / "a.txt").read_text() == "mine"

    code, _, err = run("caption", a, b, "--sidecar", "txt", "--force")
    assert (code, err) == (0, "vlm: 2 done, 0 skipped, 0 failed\n")
    assert (tmp_path / "a.txt").read_text() == "A red square.\n"


def test_two_pictures_with_one_sidecar_are_told_each_time(
    run: Run, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    draw(tmp_path / "a.jpg"), draw(tmp_path / "a.png", colour="green")
    for more in ([], [], ["--force"]):
        code, _, err = run("caption", tmp_path, "--sidecar", "txt", *more)
        assert code == 3
        assert "a.png: a.txt is the sidecar of another picture; rename one of the two" in err
    assert (tmp_path / "a.txt").read_text() == "A red square.\n"


def test_each_page_of_a_pdf_has_its_own(run: Run, tmp_path: Path, fake_engine: FakeEngine) -> None:
    pages = [Image.new("RGB", (60, 80), colour) for colour in ("red", "green")]
    pages[0].save(tmp_path / "doc.pdf", save_all=True, append_images=pages[1:])
    draw(tmp_path / "x.png").rename(tmp_path / "IMG.0001")

    assert run("caption", tmp_path, "--sidecar", "txt")[0] == 0
    assert {path.name for path in tmp_path.glob("*.txt")} == {
        "doc.page1.txt",
        "doc.page2.txt",
        "IMG.0001.txt",
    }
    assert "0 done, 3 skipped" in run("caption", tmp_path, "--sidecar", "txt")[2]


def test_what_is_no_file_has_nothing_beside_it(
    run: Run, picture: Path, fake_engine: FakeEngine
) -> None:
    code, _, err = run("caption", "-", picture, "--sidecar", "txt", stdin=picture.read_bytes())
    assert code == 3 and "stdin: a sidecar lies beside a file; -o FILE takes its answer" in err
    assert picture.with_suffix(".txt").exists() and len(fake_engine.calls) == 1


def test_a_file_and_sidecars_are_written_together_and_mended_apart(
    run: Run, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    files, out = dots(tmp_path / "dots", 3), tmp_path / "out.jsonl"
    arguments = ("caption", tmp_path / "dots", "-o", out, "--sidecar", "txt")
    run(*arguments)
    files[1].with_suffix(".txt").unlink()  # or killed between the two
    files[2].with_suffix(".txt").write_text("mine")

    code, _, err = run(*arguments)
    assert code == 0 and "1 done, 2 skipped" in err
    assert files[1].with_suffix(".txt").read_text() == "A red square.\n"
    assert files[2].with_suffix(".txt").read_text() == "mine"
    assert len(fake_engine.calls) == len(records(out)) == 3


def test_xmp_describes_the_picture(run: Run, picture: Path, fake_engine: FakeEngine) -> None:
    fake_engine.answers = ("<b>R & D</b> \x00é 🦊",)
    run("caption", picture, "--sidecar", "xmp")
    assert descriptions(picture.with_suffix(".xmp")) == {"x-default": "<b>R & D</b> é 🦊"}
    assert b'<?xpacket begin="\xef\xbb\xbf"' in picture.with_suffix(".xmp").read_bytes()


LIGHTROOM = """\
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/" xmp:Rating="4" xmp:Label="a &gt; b&#xA;'c'"{end}
 </rdf:RDF>
</x:xmpmeta>
"""
KEYWORDS = "<dc:subject><rdf:Bag><rdf:li>fox</rdf:li></rdf:Bag></dc:subject><!-- mine -->"


@pytest.mark.parametrize(
    ("inside", "others"),
    [
        ("", {}),
        (KEYWORDS, {}),
        (f"<dc:description>old</dc:description>{KEYWORDS}", {}),
        ("<dc:description/>", {}),
        ("<dc:description><rdf:Alt/></dc:description>", {}),
        (
            f"{KEYWORDS}<dc:description><rdf:Alt><rdf:li xml:lang='de'>Fuchs</rdf:li>"
            "<rdf:li xml:lang='x-default'>old</rdf:li></rdf:Alt></dc:description>",
            {"de": "Fuchs"},
        ),
        (
            "<dc:description><rdf:Alt><rdf:li xml:lang='de'>Fuchs</rdf:li></rdf:Alt>"
            "</dc:description>",
            {"de": "Fuchs"},
        ),
    ],
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_forced_xmp_changes_the_description_and_not_a_byte_else(
    run: Run,
    picture: Path,
    fake_engine: FakeEngine,
    inside: str,
    others: dict[str, str],
    mark: bytes,
) -> None:
    end = f">{inside}</rdf:Description>" if inside else "/>"
    file = picture.with_suffix(".xmp")
    file.write_bytes(mark + LIGHTROOM.format(end=end).encode())
    for answer in ("A fox.", "A red fox."):
        fake_engine.answers = (answer,)
        assert run("caption", picture, "--sidecar", "xmp", "--force")[0] == 0
        assert descriptions(file) == {"x-default": answer} | others
    text = file.read_bytes()
    assert text.startswith(mark + LIGHTROOM.partition("{end}")[0].encode())
    assert text.endswith(LIGHTROOM.partition("{end}")[2].encode())
    assert (KEYWORDS in inside) == (KEYWORDS.encode() in text) and b"old" not in text


@pytest.mark.parametrize(
    "content",
    [
        b"no XML",
        b"<x/>",
        LIGHTROOM.format(end="/>").encode("utf-16"),
        LIGHTROOM.format(end=' dc:description="old"/>').encode(),
    ],
)
def test_an_xmp_that_cannot_be_read_is_left_alone(
    run: Run, tmp_path: Path, picture: Path, fake_engine: FakeEngine, content: bytes
) -> None:
    file = picture.with_suffix(".xmp")
    file.write_bytes(content)
    other = draw(tmp_path / "z.png")
    code, _, err = run("caption", picture, other, "--sidecar", "xmp", "--force")
    assert code == 3 and "photo.xmp cannot be added to" in err and "mend or remove it" in err
    assert file.read_bytes() == content and other.with_suffix(".xmp").exists()


def test_a_folder_that_may_not_be_written_to_costs_no_answer(
    run: Run, picture: Path, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # tests may run as root
    code, _, err = run("caption", picture, "--sidecar", "txt")
    assert code == 3 and "photo.png: nothing may be written to" in err
    assert fake_engine.calls == []


def test_without_links_on_the_file_system_it_is_written_all_the_same(
    run: Run, picture: Path, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    assert run("caption", picture, "--sidecar", "txt")[0] == 0
    assert picture.with_suffix(".txt").read_text() == "A red square.\n"
    assert [path.name for path in picture.parent.iterdir() if path.name.startswith(".")] == []
