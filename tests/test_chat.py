"""`vlm chat` without a terminal: one turn a line, answers on stdout and nothing else."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chats_here import CODE, HOSTILE, PICTURE_TOKENS, Talker, fake_vlm
from clips_here import SIZE, make
from conftest import Run, Say, draw

from vlmcli import backends
from vlmcli.chat.slash import COMMANDS
from vlmcli.errors import DeviceError, ModelError
from vlmcli.messages import Chunk, Delta
from vlmcli.output import clean

# --- turns and pictures ---


def test_each_line_is_a_turn_and_stdout_is_the_answers(say: Say) -> None:
    code, out, err = say("hello", "", "and now?")

    assert (code, err) == (0, "")
    assert out == ["heard U: hello", "heard U: hello A: heard U: hello U: and now?"]


def test_pictures_join_at_any_turn_and_stay(say: Say, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png", colour="green")

    code, out, err = say("what is it?", "b.png", "which is redder?", arguments=("a.png",))

    assert code == 0
    assert out[0] == "heard U: [a.png] what is it?"
    assert out[1] == f"heard U: [a.png] what is it? A: {out[0]} U: [b.png] which is redder?"
    assert err.splitlines() == [
        f"vlm: attached a.png: 64 x 48, {PICTURE_TOKENS} tokens",
        f"vlm: attached b.png: 64 x 48, {PICTURE_TOKENS} tokens",
    ]


def test_staging_a_picture_sends_nothing(say: Say, tmp_path: Path, talker: Talker) -> None:
    draw(tmp_path / "a.png")

    code, out, err = say("a.png", "/image a.png", f"'{tmp_path}/a.png'")

    assert (code, out, talker.calls) == (0, [], [])
    assert "attached a.png" in err


def test_a_picture_that_is_seen_already_is_not_sent_again(say: Say, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")

    _, out, err = say("a.png what?", "why is a.png red?")

    assert out[1] == f"heard U: [a.png] what? A: {out[0]} U: why is a.png red?"
    assert "a.png is seen since turn 1" in err

    draw(tmp_path / "a.png", colour="green")
    _, out, _ = say("and in a.png now?", arguments=("-c",))
    assert out[0].endswith("U: [a.png] and in a.png now?") is False  # read anew by -c itself

    _, out, _ = say("a.png what?", "/image a.png", "again?")
    assert out[1].endswith("U: [a.png] again?")


def test_images_lists_what_is_attached_and_what_waits(say: Say, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png", size=(20, 10))

    _, _, err = say("/images", "a.png what?", "b.png", "/images")

    told = [line.strip() for line in err.splitlines() if not line.startswith("vlm:")]
    assert told == [
        "nothing is attached",
        f"a.png: 64 x 48, {PICTURE_TOKENS} tokens (turn 1)",
        f"b.png: 20 x 10, {PICTURE_TOKENS} tokens (for the next question)",
    ]


def test_lines_between_three_quotes_are_one_turn(say: Say) -> None:
    assert say('"""one', "two", 'three"""', "four")[1][0] == "heard U: one two three"
    assert say('"""never', "closed")[1] == ["heard U: never closed"]


def test_a_folder_and_a_glob_are_many_pictures(say: Say, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("sub/1.png", "sub/2.png"):
        draw(tmp_path / name)

    assert say("/image sub", "what?")[1] == ["heard U: [1.png] [2.png] what?"]
    assert say("sub/*.png", "what?")[1] == ["heard U: [1.png] [2.png] what?"]


def test_a_clip_is_attached_by_its_frames(say: Say, tmp_path: Path, talker: Talker) -> None:
    make(str(tmp_path / "clip.mp4"))
    draw(tmp_path / "a.png")

    code, out, err = say("/video a.png", "/video clip.mp4", "what happens?")

    assert (code, out) == (2, ["heard U: [clip.mp4] what happens?"])
    assert "a.png: a picture; /image takes it" in err
    assert "attached clip.mp4: 4 frames from " in err and f", {SIZE[0]} x {SIZE[1]}, " in err


# --- what goes wrong ---


def test_what_is_wrong_with_a_line_is_one_line_and_the_rest_goes_on(say: Say) -> None:
    code, out, err = say("please fail", "/nonsense", "hello")

    assert code == 4  # of the first that failed
    assert out == ["heard U: hello"]
    assert err.splitlines() == [
        "vlm: the model cannot do that; ask something else",
        "vlm: no command is called /nonsense; /help lists them",
    ]


def test_after_a_picture_that_cannot_be_read_nothing_is_asked_blind(
    say: Say, tmp_path: Path, talker: Talker
) -> None:
    draw(tmp_path / "a.png")

    code, out, err = say("/image nope.png", "what is it?", "b.png why?", "how?", "a.png", "now?")

    assert (code, out) == (3, ["heard U: [a.png] now?"])
    assert [line.partition(";")[0] for line in err.splitlines()[:4]] == [
        "vlm: nope.png: no such file",
        "vlm: not asked: nope.png could not be read",
        "vlm: b.png: no such file",
        "vlm: not asked: b.png could not be read",
    ]
    assert "in `backquotes` it is only words" in err


def test_an_error_of_a_model_leaves_the_conversation_as_it_was(say: Say, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")

    _, out, _ = say("hello", "a.png fail", "what?")

    assert out[1] == "heard U: hello A: heard U: hello U: [a.png] what?"


def test_an_answer_that_breaks_off_is_kept_as_far_as_it_came(
    say: Say, talker: Talker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(*arguments: Any) -> Iterator[Chunk]:
        if talker.calls:
            yield from Talker.generate(talker, *arguments)
            return
        talker.calls.append(arguments)
        yield Delta("half an ")
        raise ModelError("it broke")

    monkeypatch.setattr(talker, "generate", breaking)
    code, out, err = say("one", "/export talk.md", "two")

    assert code == 4 and "it broke" in err
    assert out == ["half an ", "heard U: one A: half an U: two"]
    assert "half an \n\n*(stopped here)*" in Path("talk.md").read_text()


def test_a_bug_is_one_line_and_the_chat_goes_on(say: Say) -> None:
    code, out, err = say("a bug", "hello")

    assert (code, out) == (70, ["heard U: hello"])
    assert err == "vlm: a bug: ZeroDivisionError: by nought; VLM_DEBUG=1 shows where\n"


def test_a_picture_on_the_command_line_is_read_before_any_model(
    say: Say, tmp_path: Path, talker: Talker
) -> None:
    for arguments in (("nope.png",), ("nope.mp4",), ("-i", "nope.png")):
        code, out, err = say("hello", arguments=arguments)
        assert (code, out, talker.loads) == (3, [], [])
        assert err.startswith("vlm: nope.") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-",), "- is where the questions come from"),
        (("--list", "-c"), "--list only lists"),
        (("--cid", ""), "--cid: the name is empty"),
        (("-c",), "no chat is kept yet"),
        (("-n", "0"), "--max-tokens: 0 is too small"),
    ],
)
def test_a_wrong_command_line_exits_2(say: Say, arguments: tuple[str, ...], says: str) -> None:
    code, out, err = say("hello", arguments=arguments)

    assert (code, out) == (2, [])
    assert says in err and err.count("\n") == 1


def test_a_line_that_is_no_utf_8_is_told(say: Say) -> None:
    code, out, err = say("caf\udce9", "hello")

    assert (code, out) == (2, ["heard U: hello"])
    assert "is not valid UTF-8" in err


def test_what_a_model_says_commands_nothing(say: Say) -> None:
    _, out, _ = say("hostile", "/export x.md", "/save x.json")

    assert out == [clean(HOSTILE)]
    for name in ("x.md", "x.json"):
        assert clean(Path(name).read_text()) == Path(name).read_text()


# --- the commands ---


@pytest.mark.parametrize(
    ("typed", "near"),
    [("/imag x", "/image"), ("/expotr", "/export"), ("/hlep", "/help"), ("/quti", "/quit")],
)
def test_a_wrong_command_says_what_is_near(say: Say, typed: str, near: str) -> None:
    code, _, err = say(typed)

    assert code == 2
    assert f"did you mean {near}?" in err


@pytest.mark.parametrize("word", ["/exit", "/quit", "/bye"])
def test_three_words_leave(say: Say, word: str) -> None:
    assert say(word, "hello") == (0, [], "")


def test_help_names_every_command(say: Say) -> None:
    _, out, err = say("/help")

    assert out == []
    for name in COMMANDS:
        assert (f"  {name} " in err) == (name not in ("/quit", "/bye"))


def test_regen_answers_anew_and_undo_takes_back(say: Say, talker: Talker, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")

    _, out, err = say("one", "two", "/regen", "/undo", "three", "a.png", "/undo", "four")

    assert out[1] == out[2]
    assert out[3] == f"heard U: one A: {out[0]} U: three"
    assert out[4].endswith("U: four")
    assert "taken back: turn 2 (“two”)" in err
    assert "taken back: a.png" in err
    assert "at temperature 0 the same question gets the same answer" in err


def test_regen_and_undo_of_nothing_are_told(say: Say) -> None:
    code, _, err = say("/regen", "/undo", "/export x.md")

    assert code == 2
    assert err.splitlines() == [
        "vlm: nothing was asked yet",
        "vlm: there is nothing to take back",
        "vlm: nothing was said yet",
    ]


def test_a_regen_that_fails_keeps_the_old_answer(
    say: Say, talker: Talker, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    def once(conversation: object, sampling: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise ModelError("not now")
        return Talker.generate(talker, conversation, sampling)  # type: ignore[arg-type]

    monkeypatch.setattr(talker, "generate", once)
    _, out, err = say("one", "/regen", "two")

    assert out == ["heard U: one", f"heard U: one A: {out[0]} U: two"]
    assert err.splitlines()[-1] == "vlm: not now"


def test_the_system_message_holds_until_it_is_changed(say: Say) -> None:
    _, out, err = say(
        "one",
        "/system Be brief.",
        "/clear",
        "two",
        "/set system Be long.",
        "/clear",
        "three",
        "/system -",
        "/clear",
        "four",
        arguments=("-s", "You see."),
    )

    assert out == [
        "heard S: You see. U: one",
        "heard S: Be brief. U: two",
        "heard S: Be long. U: three",
        "heard U: four",
    ]
    assert "system: Be brief." in err


def test_set_takes_every_setting_that_a_flag_takes(say: Say, talker: Talker) -> None:
    code, _, err = say(
        "/set temperature 0.5",
        "/set max-tokens 7",
        "/set --top-p 0.9",
        "/set n 8",
        '/set stop "END" "\\n\\n"',
        "/set seed 3",
        "/set lang de",
        "one",
        "/set temperature -",
        "/set seed -",
        "two",
        arguments=("-t", "0.25"),
    )

    assert code == 0, err
    (conversation, first), (_, second) = talker.calls
    assert (first.temperature, first.max_tokens, first.top_p, first.seed) == (0.5, 8, 0.9, 3)
    assert first.stop == ("END", "\n\n")
    assert (second.temperature, second.seed) == (0.25, None)
    assert conversation[-1].texts == ("one\nAnswer in German (Deutsch).",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", "hot"),
        ("max_tokens", "0"),
        ("top_p", "2"),
        ("seed", "-1"),
        ("stats", "maybe"),
        ("url_timeout", "nan"),
    ],
)
def test_set_refuses_what_the_flag_refuses_in_the_same_words(
    say: Say, run: Run, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = say(f"/set {name} {value}")
    monkeypatch.setenv(f"VLM_{name.upper()}", value)
    _, _, by_variable = run("chat", "--list")

    assert code == 2
    assert err == by_variable.replace(f"VLM_{name.upper()}", f"/set {name}")


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("/set temprature 1", "no setting is called 'temprature'; did you mean temperature?"),
        (
            "/set device cuda",
            "/set device: that is settled when a model loads; vlm chat -c --device",
        ),
        ("/set model x", "that is settled when a model loads; /model NAME"),
        ('/set stop "open', "/set stop: no closing quotation"),
    ],
)
def test_set_says_what_it_does_not_know(say: Say, typed: str, says: str) -> None:
    code, _, err = say(typed)

    assert code == 2
    assert says in err


def test_set_tells_values(say: Say) -> None:
    _, _, err = say(
        "/set temperature", "/set", "/set stats", arguments=("-t", "0.5", "--stop", "\n")
    )

    assert err.startswith("  temperature: 0.5\n")
    assert "  stop " in err and "\\n" in err
    assert "  system " in err
    assert err.endswith("  stats: no\n")


def test_stats_tells_tokens_and_what_the_context_holds(say: Say, talker: Talker) -> None:
    talker.context_tokens = 1000

    _, _, err = say("/stats", "one two three", "/stats")

    first, *_, last = err.splitlines()
    assert first == "  0 turns, 0 pictures"
    assert "fake on cpu, float32: 7 prompt tokens" in err
    assert last == "  1 turn, 0 pictures; 12 of 1000 tokens of context"


def test_what_a_model_thinks_is_on_stderr_and_no_part_of_the_conversation(say: Say) -> None:
    _, out, err = say("ponder", "and?")
    assert "it may be a cat" in err
    assert out[0] == "heard U: ponder"
    assert "it may be a cat" not in "".join(out)  # nor is it told to the model again

    _, hidden, err = say("ponder", "and?", arguments=("-R",))
    assert "it may be a cat" not in err and hidden == out

    _, out, _ = say("ponder", arguments=("--json",))
    assert json.loads(out[0])["reasoning"] == "it may be a cat"
    _, out, _ = say("ponder", arguments=("--json", "-R"))
    assert "reasoning" not in json.loads(out[0])


def test_json_is_an_object_a_turn(say: Say) -> None:
    _, out, _ = say("one", "two", arguments=("--json",))

    first, second = map(json.loads, out)
    assert (first["prompt"], first["text"], first["finish_reason"]) == (
        "one",
        "heard U: one",
        "stop",
    )
    assert second["prompt"] == "two"


def test_code_comes_through_a_pipe_as_it_is(say: Say) -> None:
    assert "\n".join(say("code")[1]) == CODE.rstrip("\n")


# --- models ---


def test_another_model_goes_on_with_the_conversation(say: Say, talker: Talker) -> None:
    code, out, err = say("one", "/model other", "two", "/model")

    assert code == 0
    assert out[1] == f"heard U: one A: {out[0]} U: two"
    assert [settings.model for settings in talker.loads] == ["auto", "other"]
    assert err.splitlines() == ["  other on cpu, float32"] * 2


def test_a_model_that_cannot_be_had_leaves_the_old_one(say: Say, talker: Talker) -> None:
    talker.broken = {"other": ModelError("no model is called 'other'")}

    code, out, err = say("/model other", "one", "/model")

    assert (code, out) == (4, ["heard U: one"])
    assert err == "vlm: no model is called 'other'\n  fake on cpu, float32\n"


def test_a_model_that_does_not_fit_beside_the_old_one_gets_its_room(
    say: Say, talker: Talker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def load(settings: object) -> object:
        tries.append(settings.model)  # type: ignore[attr-defined]
        if (tries[-1] == "tight" and tries.count("tight") == 1) or tries[-1] == "huge":
            raise DeviceError("does not fit")
        return talker.load(settings)  # type: ignore[arg-type]

    monkeypatch.setattr(backends, "load", load)
    code, out, err = say("/model huge", "one", "/model tight", "two")

    assert code == 5
    assert tries == ["auto", "huge", "huge", "auto", "tight", "tight"]
    assert len(out) == 2 and "tight on cpu, float32" in err


# --- a context that is full ---


def test_what_has_no_room_is_told_before_it_goes(say: Say, talker: Talker, tmp_path: Path) -> None:
    talker.context_tokens = 160
    for name in ("a", "b", "c"):
        draw(tmp_path / f"{name}.png", size=(10 + ord(name), 10))

    code, out, err = say(
        "a.png what is one",
        "b.png what is two",
        "c.png",
        "what is three",
        "/images",
        arguments=("-n", "10", "-s", "Be brief."),
    )

    assert code == 0
    lines = err.splitlines()
    full, turn = "vlm: warning: the context of fake is full (160 tokens);", "(“what is one”, a.png)"
    assert lines[2:5] == [
        f"vlm: attached c.png: 109 x 10, {PICTURE_TOKENS} tokens",
        f"{full} the next question will push out turn 1 {turn}",
        f"{full} from here on it does not see turn 1 {turn}",
    ]
    assert out[-1].startswith("heard S: Be brief. U: [b.png] what is two A: ")
    assert out[-1].endswith("U: [c.png] what is three")
    assert "(turn 1, no longer seen)" in err and "(turn 2)" in err


def test_the_newest_turn_and_the_system_message_are_never_dropped(say: Say, talker: Talker) -> None:
    talker.context_tokens = 40

    _, out, _ = say("one " * 10, "two " * 60, arguments=("-s", "Be brief.", "-n", "5"))

    assert out[1] == "heard S: Be brief. U: " + " ".join(["two"] * 60)


def test_a_larger_context_sees_again_what_was_left_out(
    say: Say, talker: Talker, monkeypatch: pytest.MonkeyPatch
) -> None:
    talker.context_tokens = 40
    _, out, _ = say("one " * 20, "two " * 20, "/model other", "three")

    assert out[1].startswith("heard U: two")
    assert out[2].startswith("heard U: two") or out[2].startswith("heard U: three")

    talker.context_tokens = 400
    _, out, _ = say("four", arguments=("-c",))
    assert out[0].startswith("heard U: one")


# --- files ---


def test_export_is_markdown_or_the_form_of_messages(say: Say, tmp_path: Path, run: Run) -> None:
    photo = draw(tmp_path / "a photo.png")

    code, _, err = say(
        "'a photo.png' what?", "/export talk.md", "/export talk.json", arguments=("-s", "Be brief.")
    )

    assert code == 0
    assert Path("talk.md").read_text() == (
        "**System**\n\n> Be brief.\n\n"
        f"**You**\n\n> ![a photo.png](<{photo}>)\n>\n> what?\n\n"
        "**fake**\n\nheard S: Be brief. U: [a photo.png] what?\n"
    )
    said = json.loads(Path("talk.json").read_text())
    assert [message["role"] for message in said] == ["system", "user", "assistant"]
    assert said[1]["content"][0] == {"type": "image", "image": str(photo)}
    assert "1 turn, 1 picture in talk.md" in err


def test_what_export_writes_can_be_asked_about(say: Say, run: Run, talker: Talker) -> None:
    say("one", "/export talk.json")
    said = json.loads(Path("talk.json").read_text())
    question = {"role": "user", "content": [{"type": "text", "text": "two"}]}
    Path("more.json").write_text(json.dumps([*said, question]))

    assert run("ask", "--messages", "more.json") == (0, "heard U: one A: heard U: one U: two\n", "")


def test_load_goes_on_with_what_save_wrote(say: Say, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    say("a.png what?", "/system Be brief.", "/save talk.json")

    code, out, err = say("other", "/load talk.json", "and?", "/stats")

    assert code == 0
    assert out[1] == "heard S: Be brief. U: [a.png] what? A: heard U: [a.png] what? U: and?"
    assert "  1 turn, 1 picture\n" in err


def test_load_takes_the_name_of_a_chat(say: Say) -> None:
    say("one")
    name = json.loads(say(arguments=("--list", "--json"))[1][0])["id"]

    _, out, _ = say(f"/load {name}", "two")

    assert out == ["heard U: one A: heard U: one U: two"]
    assert len(say(arguments=("--list",))[1]) == 1


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("/load", "/load what?"),
        ("/load nope.json", "nope.json: no such file, and no such chat"),
        ("/load bad.json", "bad.json: not JSON"),
        ("/load answer.json", "message 1: an answer, and nothing was asked"),
        ("/load odd.json", "message 1: the role is 'alien'"),
    ],
)
def test_load_says_what_is_wrong_and_changes_nothing(
    say: Say, tmp_path: Path, typed: str, says: str
) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "answer.json").write_text('[{"role": "assistant", "content": "yes"}]')
    (tmp_path / "odd.json").write_text('[{"role": "alien", "content": "yes"}]')

    code, out, err = say("one", typed, "two")

    assert code in (2, 3)
    assert says in err
    assert out[1] == "heard U: one A: heard U: one U: two"


def test_load_says_which_pictures_are_gone(say: Say, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    say("a.png what?", "/save talk.json")
    (tmp_path / "a.png").unlink()

    _, out, err = say("/load talk.json", "and?")

    assert "a.png: no such file; the model is told that it is gone" in err
    assert "[a.png was shown here, and cannot be seen any more] what?" in out[0]


def test_a_file_that_is_there_is_not_written_over(say: Say, tmp_path: Path) -> None:
    (tmp_path / "talk.md").write_text("mine")

    code, _, err = say("one", "/export talk.md", "/export new.md", "two", "/export new.md")

    assert code == 2
    assert "talk.md is there already; take another name" in err
    assert (tmp_path / "talk.md").read_text() == "mine"
    assert "> two" in (tmp_path / "new.md").read_text()


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("/export talk.txt", "talk.txt: which form?; end it in .md or .markdown or .json"),
        ("/save talk.md", "talk.md: which form?; end it in .json"),
        ("/export no/such/talk.md", "no/such/talk.md cannot be written; no such file or directory"),
    ],
)
def test_a_file_that_cannot_be_written_is_told(say: Say, typed: str, says: str) -> None:
    code, _, err = say("one", typed)

    assert code in (2, 74)
    assert says in err


# --- signals ---


def test_ctrl_c_keeps_the_answer_so_far_and_ends_a_pipe(tmp_path: Path, run: Run) -> None:
    command = fake_vlm("chat", pause_s=0.05)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write("slow\nmore\n")
        process.stdin.flush()
        assert process.stdout.read(6) == "word0 "
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=60)

    assert process.returncode == -signal.SIGINT
    assert rest.endswith("\n") and "word199" not in rest and "heard" not in rest
    assert err == "vlm: stopped\n"
    listed = json.loads(run("chat", "--list", "--json")[1])
    assert listed["question"] == "slow"
    events = [json.loads(line) for line in Path(listed["file"]).read_text().splitlines()]
    assert (events[-1]["event"], events[-1]["ending"]) == ("answered", "cut")
    assert events[-1]["text"].startswith("word0 ")


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    with subprocess.Popen(
        fake_vlm("chat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"heard U: one\n"
        process.stdout.close()
        process.stdin.write(b"two\nthree\n")
        process.stdin.close()
        err = process.stderr.read()

    assert (process.returncode, err) == (0, b"")
