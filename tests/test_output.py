"""What the user sees on a terminal, in a pipe, and when something breaks off."""

import io
import json
import os
import re
import select
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from terminal import Terminal, spawn

from vlmcli import output
from vlmcli.errors import InputError
from vlmcli.messages import Delta, Done

DONE = Done("stop", 76, 64, 12, 1.10, 1.54)

# argv: the pieces of the answer, the pause after each, then how it ends.
STREAM = """
import json, sys, time
from vlmcli import output
from vlmcli.messages import Delta, Done
pieces, pause_s, ending = json.loads(sys.argv[1])
def chunks():
    for piece in pieces:
        yield Delta(piece)
        time.sleep(pause_s)
    if ending == "wait":
        sys.stdin.readline()
    if ending == "break":
        raise RuntimeError("broken off")
    yield Done("stop", 76, 64, 12, 1.10, 1.54)
try:
    output.stream(chunks(), live=ending != "at once")
finally:
    print("the end", file=sys.stderr)
"""

DOCUMENTS = {
    "paragraphs": "First **bold** words,\non two lines.\n\nThen `code` and *em*. " + "and on " * 30,
    "nested lists": "1. one\n2. two\n   - inner\n   - more\n\n3. three\n\n* a\n* b\n\n  c\n\nend",
    "table": "Prices:\n\n| fruit | price |\n|---|---:|\n| apple | 12 |\n| りんご | 7 |\n\nAll.",
    "long code": "Look:\n\n```python\n"
    + "".join(f"x = {i}  # c\n" for i in range(60))
    + "```\nEnd.",
    "japanese": "# 写真\n\n机の上に猫がいます。" * 3
    + "\n\n- 赤い花瓶\n- 窓から見える東京タワーと青い空\n",
    "headings": "# One\ntext\n## Two\n\n> quoted\n> twice\n\n---\nThree\n=====\nlast",
    "only markup": "7.",
}
OURS = re.compile(r"\x1b\[(?:[\d;]*m|\d+A|2K|J)")  # styles, the cursor up, erasing


def command(program: str, *args: object) -> list[str]:
    return [sys.executable, "-c", program, *(json.dumps(arg) for arg in args)]


def answering(
    text: str, ending: str = "done", *, step: int = 5, pause_s: float = 0.002
) -> list[str]:
    pieces = [text[at : at + step] for at in range(0, len(text), step)]
    return command(STREAM, (pieces, pause_s, ending))


def shown(terminal: Terminal, status: int = 0) -> list[str]:
    assert terminal.wait() == status, terminal.text
    return terminal.screen()


def answered(text: str, **where: int) -> list[str]:
    lines = shown(spawn(answering(text, "at once"), **where))
    return [line for line in lines if line != "the end"]


def in_pipe(program: list[str], **env: str) -> tuple[int, bytes, bytes]:
    done = subprocess.run(program, capture_output=True, env=os.environ | env, timeout=20)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (20, 10)])
def test_a_streamed_answer_ends_up_looking_like_one_printed_at_once(document, columns, rows):
    streamed = spawn(answering(document), columns=columns, rows=rows, stderr=subprocess.DEVNULL)
    assert shown(streamed) == answered(document, columns=columns, rows=rows)


def test_markdown_is_rendered_on_a_terminal():
    assert answered("# T\n\n- **bold**\n- [site](http://a.b)\n\n| a |\n|---|\n| 1 |") == [
        " " * 39 + "T",
        "",
        " • bold",
        " • site (http://a.b)",
        "",
        " a",
        " ─",
        " 1",
    ]


def test_wide_characters_fill_a_line_and_are_never_split_at_its_edge():
    assert answered("写真の中に三匹の猫と大きな犬がいる。", columns=21) == [
        "写真の中に三匹の猫と",
        "大きな犬がいる。",
    ]


def test_the_numbers_of_a_list_stand_in_one_column():
    assert answered("".join(f"{n}. x\n" for n in range(8, 11))) == ["  8 x", "  9 x", " 10 x"]


def test_a_table_on_a_narrow_terminal_loses_no_letter():
    text = "| a | b |\n|---|---|\n| abcdefghijklmnopqrst | 0123456789012345 |\n"
    letters = "".join(answered(text, columns=20))
    assert all(letters.count(letter) for letter in "fghijklmnopqrst")
    assert sum(letters.count(digit) for digit in "0123456789") == 16


@pytest.mark.parametrize(
    "text",
    [
        "[red]a[/red] [/b]",
        "a <tag> b",
        "<div>",
        "7.",
        "-",
        "![pic](a.png)",
        "[r]: http://a.b",
        "a & b",
    ],
)
def test_what_looks_like_markup_is_shown_as_it_is(text):
    assert answered(text) == [text]


def test_the_line_breaks_of_a_receipt_stay():
    assert answered("TEA 2.00\nMILK 1.00") == ["TEA 2.00", "MILK 1.00"]


def test_a_finished_block_is_never_written_again():
    text = "The early paragraph.\n\n" + "- an item of the list\n" * 9 + "\nmore words " * 40
    terminal = spawn(answering(text, pause_s=0.01))
    shown(terminal)
    assert terminal.text.count("The early paragraph.") == 1
    assert terminal.text.count("an item of the list") <= 2 * 9  # once as the last, growing block


def test_a_block_taller_than_the_screen_shows_its_end_and_then_all_of_it_once():
    code = "```\n" + "".join(f"line {number};\n" for number in range(100)) + "```\n"
    terminal = spawn(answering(code, "wait", step=60, pause_s=0.06), rows=10)
    terminal.read_until("line 97;")
    assert "line 50;" in terminal.text
    assert len(terminal.screen()) <= 10
    assert all(line.startswith(" line") for line in terminal.screen())  # indented: still code
    terminal.send(b"\x04")  # the end of input, which the terminal does not echo
    lines = [line.strip() for line in shown(terminal)]
    assert [line for line in lines if line.startswith("line")] == [f"line {i};" for i in range(100)]


@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
@pytest.mark.parametrize("step", [1, 100])
def test_no_control_sequence_of_a_model_reaches_the_terminal(term, step):
    attack = "a\x1b]52;c;cHduZWQ=\x07b\x1b[2Jc\x9b31md\u202ee\x08\x7f\ud800 &#x202e;&#27;\r\nf\rg"
    terminal = spawn(answering(attack + "\n\nend", step=step), env={"TERM": term})
    assert shown(terminal)[-2:] == ["end", "the end"]
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]", OURS.sub("", terminal.text))
    assert "a]52;c;cHduZWQ=b[2Jc31mde" in terminal.text


def test_piped_output_is_the_plain_text_with_one_newline_at_its_end():
    assert in_pipe(answering("# T\n\n- **b**\r\n\x1b[31mc"))[1] == b"# T\n\n- **b**\n[31mc\n"
    assert in_pipe(answering("a\n"))[1] == b"a\n"


def test_a_pipe_gets_tokens_before_the_answer_is_complete():
    program = answering("first", "wait")
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(program, **pipes, env=buffered) as process:
        assert process.stdin is not None and process.stdout is not None
        assert select.select([process.stdout], [], [], 5)[0]
        assert process.stdout.read(5) == b"first"
        assert process.poll() is None
        process.stdin.close()
        assert process.stdout.read() == b"\n"


def test_a_dumb_terminal_gets_plain_text_only():
    terminal = spawn(answering("# T\n\n**b**"), env={"TERM": "dumb"}, stderr=subprocess.DEVNULL)
    shown(terminal)
    assert terminal.text == "# T\r\n\r\n**b**\r\n"


def test_no_color_means_no_colour_but_still_markdown():
    text = "- **bold** `code`\n\n```python\nx = 1\n```\n"
    coloured = spawn(answering(text))
    plain = spawn(answering(text), env={"NO_COLOR": "1"})
    colour = re.compile(r"\x1b\[[\d;]*(?:3[0-8]|4[0-8]|9\d|10\d)[\d;]*m")
    assert shown(coloured) == shown(plain)
    assert colour.search(coloured.text)
    assert not colour.search(plain.text)
    assert "\x1b[1m" in plain.text


@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
def test_ctrl_c_keeps_what_was_printed_and_leaves_a_clean_line(term):
    terminal = spawn(answering("So far **so good", "wait"), env={"TERM": term})
    terminal.read_until("good")
    terminal.send(b"\x03")
    lines = shown(terminal, status=-2)
    assert lines[0].removesuffix("^C") == "So far **so good"
    assert lines[1] == "the end"
    assert terminal.text.count("\x1b[?25l") == terminal.text.count("\x1b[?25h")


@pytest.mark.parametrize("env", [{"TERM": "xterm-256color"}, {"TERM": "dumb"}])
def test_an_exception_goes_on_after_what_was_printed(env):
    terminal = spawn(answering("- one\n- tw", "break"), env=env)
    lines = shown(terminal, status=1)
    assert [line.strip(" •-") for line in lines[:2]] == ["one", "tw"]
    assert lines[2] == "the end"
    assert lines[-1] == "RuntimeError: broken off"


def test_an_answer_that_is_not_live_is_printed_only_when_it_is_complete(capsys):
    def chunks():
        yield Delta("one ")
        yield Delta("two")
        assert capsys.readouterr().out == ""
        yield DONE

    assert output.stream(chunks(), live=False) == ("one two", DONE)
    assert capsys.readouterr().out == "one two\n"


def test_stream_returns_the_whole_text_cleaned():
    answer = iter([Delta("a\x1b"), Delta("[1m\r"), Delta("\nb"), DONE])
    assert output.stream(answer) == ("a[1m\nb", DONE)


def test_an_answer_that_is_left_early_is_closed(monkeypatch):
    class Interrupted(io.StringIO):
        def write(self, text: str) -> int:
            raise KeyboardInterrupt

    closed = []

    def chunks():
        try:
            yield Delta("a")
            yield DONE
        finally:
            closed.append(True)

    answer = chunks()
    monkeypatch.setattr(sys, "stdout", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        output.stream(answer)
    assert closed == [True]


def test_a_reader_who_leaves_is_a_broken_pipe_error_and_nothing_more():
    quiet = "import os\ntry:\n" + "".join(f"    {line}\n" for line in STREAM.splitlines())
    quiet += "except BrokenPipeError:\n    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)\n"
    reader, writer = os.pipe()
    os.close(reader)
    program = command(quiet, (["a\n"] * 10, 0, "done"))
    done = subprocess.run(program, stdout=writer, stderr=subprocess.PIPE, timeout=20)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"the end\n")


def test_an_encoding_that_lacks_a_character_gets_an_escape_instead_of_a_traceback():
    code, out, err = in_pipe(answering("猫 é"), PYTHONIOENCODING="ascii")
    assert (code, out, err) == (0, b"\\u732b \\xe9\n", b"the end\n")
    terminal = spawn(answering("- 猫"), env={"PYTHONIOENCODING": "ascii"})
    assert shown(terminal)[0] == "- \\u732b"


def test_a_record_is_one_readable_line_that_is_safe_to_show(capsys):
    fields = {
        "file": "猫\udc80.jpg",
        "text": "a\n\x1b\x9b\u202e\u2028b",
        "tokens": 3,
        "failed": None,
    }
    output.record(fields)
    line = capsys.readouterr().out
    assert line == (
        '{"file": "猫\\udc80.jpg", "text": "a\\n\\u001b\\u009b\\u202e\\u2028b", '
        '"tokens": 3, "failed": null}\n'
    )
    assert json.loads(line) == fields


def test_a_document_is_an_indented_record(capsys):
    output.document({"text": "猫\x9b", "tokens": 3})
    assert capsys.readouterr().out == '{\n  "text": "猫\\u009b",\n  "tokens": 3\n}\n'


def test_a_record_is_valid_json_in_any_encoding():
    program = command("from vlmcli import output; output.record({'text': '猫é🐈'})")
    assert json.loads(in_pipe(program, PYTHONIOENCODING="latin-1")[1]) == {"text": "猫é🐈"}


@given(st.text())
def test_any_text_comes_back_from_a_record(text):
    line = printed(output.record, {"text": text})
    assert json.loads(line) == {"text": text}
    assert line.count("\n") == 1 and not re.search("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]", line)


def printed(show, *args: object) -> str:
    """What `show` prints; by hand, as hypothesis and capsys do not go together."""
    real, sys.stdout = sys.stdout, io.StringIO()
    try:
        show(*args)
        return sys.stdout.getvalue()
    finally:
        sys.stdout = real


anything = st.text(st.characters() | st.sampled_from("\r\n\t\x1b\x9b\u202e\u2066\ud800\udfff"))


@given(anything, anything)
def test_clean_removes_every_control_wherever_a_stream_cuts_the_text(before, after):
    cleaned = output.clean(before + after)
    assert cleaned == output.clean(before) + output.clean(after) == output.clean(cleaned)
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", cleaned
    )
    assert output.clean("a\r\nb\tc é 猫") == "a\nb\tc é 猫"


def test_a_caption_is_one_line_and_its_name_can_be_opened():
    name = os.fsdecode(b"caf\xe9 \xe7\x8c\xab.jpg")
    show = (
        "import sys, json; from vlmcli import output; output.caption_line(*json.loads(sys.argv[1]))"
    )
    program = command(show, (name, "a cat\n\ton a mat\x1b[0m\n"))
    assert in_pipe(program)[1] == b"caf\xe9 \xe7\x8c\xab.jpg\ta cat on a mat[0m\n"
    assert in_pipe(program, PYTHONIOENCODING="ascii")[1].startswith(b"caf\xe9 \xe7\x8c\xab.jpg\t")
    terminal = spawn(command(show, ("a\x1b[2J\n.jpg", "a cat")))
    assert [" ".join(line.split()) for line in shown(terminal)] == ["a[2J .jpg a cat"]
    assert "\x1b[36m" in terminal.text


def test_plain_prints_a_text_once_without_markdown(capsys):
    output.plain("**a**\x1b[2J\n")
    output.plain("[b]")
    assert capsys.readouterr().out == "**a**[2J\n[b]\n"


def test_messages_are_one_line_each_on_stderr(capsys):
    output.error(InputError("cannot read [red] a\n\x1b[2Jb.jpg", hint="is it there?"))
    output.warn("slow\n")
    output.note("[/b] cached")
    assert capsys.readouterr() == (
        "",
        "vlm: cannot read [red] a [2Jb.jpg; is it there?\nvlm: warning: slow\nvlm: [/b] cached\n",
    )


def test_messages_are_coloured_on_a_terminal_and_broken_only_by_it():
    show = "from vlmcli import output; from vlmcli.errors import InputError\n"
    show += "output.error(InputError('no [red] file ' + 'x ' * 50)); output.note('noted')"
    terminal = spawn(command(show))
    shown(terminal)
    assert "\x1b[1;31mvlm:\x1b[0m no [red] file x x" in terminal.text
    assert terminal.text.count("\n") == 2
    without = spawn(command(show), env={"NO_COLOR": "1"})
    shown(without)
    assert "31m" not in without.text


@pytest.mark.parametrize(
    ("done", "line"),
    [
        (
            DONE,
            "76 prompt tokens (64 image), first token 1.10 s, "
            "12 tokens in 1.54 s, 25.0 tok/s, stop",
        ),
        (
            Done("stop", 76, 64, 1, 0.5, 0.5, cached_tokens=70),
            "76 prompt tokens (64 image, 70 cached), first token 0.50 s, 1 tokens in 0.50 s, stop",
        ),
        (
            Done("stop", 8, None, 1, 0.5, 0.5, cached_tokens=7),
            "8 prompt tokens (7 cached), first token 0.50 s, 1 tokens in 0.50 s, stop",
        ),
        (
            Done("length", 8, None, 1, 0.5, 0.5),
            "8 prompt tokens, first token 0.50 s, 1 tokens in 0.50 s, length",
        ),
        (
            Done("stop", 8, 0, 0, 0.0, 0.0),
            "8 prompt tokens (0 image), first token 0.00 s, 0 tokens in 0.00 s, stop",
        ),
    ],
)
def test_stats_say_what_an_answer_cost(capsys, done, line):
    output.stats(done, "tiny")
    assert capsys.readouterr() == ("", f"tiny: {line}\n")


PROGRESS = """
import sys, time
from vlmcli import output
with output.status("loading \\x1b[2J"):
    time.sleep(0.3)
with output.progress(3) as meter:
    for number in range(3):
        time.sleep(0.2)
        output.caption_line(f"{number}.jpg", "a cat")
        meter.advance(failed=number == 1)
        if number == 0 and sys.argv[1:]:
            raise RuntimeError("broken off")
    time.sleep(0.2)
"""


def test_progress_stays_below_the_lines_printed_meanwhile_and_then_vanishes():
    terminal = spawn(command(PROGRESS))
    assert shown(terminal) == [f"{number}.jpg   a cat" for number in range(3)]
    for seen in ("loading [2J", "0/3", "3/3", "1 failed"):
        assert seen in terminal.text
    assert terminal.text.rindex("\x1b[?25h") > terminal.text.rindex("\x1b[?25l")


def test_progress_does_not_touch_lines_above_it_on_a_narrow_terminal():
    terminal = spawn(command(PROGRESS), columns=20, rows=6)
    assert shown(terminal) == [f"{number}.jpg   a cat" for number in range(3)]


def test_progress_is_cleared_before_an_error():
    lines = shown(spawn(command(PROGRESS, "break")), status=1)
    assert lines[:2] == ["0.jpg   a cat", "Traceback (most recent call last):"]


def test_progress_is_shown_on_a_terminal_while_the_answers_go_into_a_pipe():
    terminal = spawn(command(PROGRESS), stdout=subprocess.PIPE)
    assert shown(terminal) == []
    assert "3/3" in terminal.text
    assert terminal.process.stdout is not None
    with terminal.process.stdout as stdout:
        assert stdout.read() == b"0.jpg\ta cat\n1.jpg\ta cat\n2.jpg\ta cat\n"


def test_no_progress_at_all_off_a_terminal():
    assert in_pipe(command(PROGRESS))[1:] == (b"0.jpg\ta cat\n1.jpg\ta cat\n2.jpg\ta cat\n", b"")


def test_a_pipe_does_not_wait_for_rich():
    program = (
        "import sys; from vlmcli import output; output.plain('a'); print('rich' in sys.modules)"
    )
    assert in_pipe(command(program))[1] == b"a\nFalse\n"
