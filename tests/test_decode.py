"""Tokens into text, as it comes: whole characters, no stop string, no loop, no thread left over."""

import itertools
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from vlmcli.backends.local import decode
from vlmcli.backends.local.decode import loops
from vlmcli.backends.local.words import Stops, Words
from vlmcli.messages import Delta, Done

REPLACEMENT = "\ufffd"
DONE = Done("stop", 1, None, 1, 0.1, 0.2)
PATIENCE_S = 10

# Few letters, so that stop strings are found, half found and found over one another.
letters = st.text("ab ", max_size=12)
stop_strings = st.lists(st.text("ab ", min_size=1, max_size=4), max_size=3).map(tuple)


# --- stop strings ---


@st.composite
def pieces(draw: st.DrawFn) -> list[str]:
    """A text cut anywhere; some pieces are empty, as for a token of half a character."""
    text = draw(letters)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
    return [text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)])]


def said(stops: Stops, given_pieces: list[str]) -> list[str]:
    """What a reader gets, piece by piece, as `generate_text` uses it."""
    out = []
    for piece in given_pieces:
        out.append(stops.push(piece))
        if stops.found:
            return out
    return [*out, stops.flush()]


def nested(stops: tuple[str, ...]) -> bool:
    return any(one in other for one, other in itertools.permutations(set(stops), 2))


@given(pieces(), stop_strings.filter(lambda stops: not nested(stops)))
def test_the_text_ends_before_the_first_stop_string_however_it_is_cut(
    given_pieces: list[str], stops: tuple[str, ...]
) -> None:
    text = "".join(given_pieces)
    places = [text.find(stop) for stop in stops if stop in text]
    reader = Stops(stops)

    assert "".join(said(reader, given_pieces)) == text[: min(places, default=len(text))]
    assert reader.found == bool(places)


@given(pieces(), stop_strings)
def test_nothing_of_a_stop_string_leaks_even_from_one_inside_another(
    given_pieces: list[str], stops: tuple[str, ...]
) -> None:
    text = "".join(given_pieces)
    reader = Stops(stops)
    out = "".join(said(reader, given_pieces))
    assert text.startswith(out)
    assert not any(stop in out for stop in stops)
    assert not reader.found or any(text[len(out) :].startswith(stop) for stop in stops)


@given(pieces())
def test_without_a_stop_string_every_piece_comes_out_at_once(given_pieces: list[str]) -> None:
    assert said(Stops(()), given_pieces) == [*given_pieces, ""]


def test_only_what_may_be_the_start_of_a_stop_string_is_held_back() -> None:
    stops = Stops(("END",))
    assert [stops.push(piece) for piece in ("an E", "N", "V", "Y. EN", "D now")] == [
        "an ",
        "",
        "ENV",
        "Y. ",
        "",
    ]
    assert stops.found


@pytest.mark.parametrize("stops", [("!", "?"), ("?", "!")])
def test_of_two_stop_strings_in_one_piece_the_first_in_the_text_counts(
    stops: tuple[str, str],
) -> None:
    assert Stops(stops).push("Oh! Why? Oh!") == "Oh"


def test_an_empty_stop_string_stops_nothing() -> None:
    stops = Stops(("", "!"))
    assert (stops.push("a b"), stops.found) == ("a b", False)


# --- loops ---

ids = st.integers(0, 50_000)


def enough(pattern: list[int]) -> int:
    """How often a pattern is said before it counts as a loop."""
    long = len(pattern) >= decode.LONG_PATTERN
    repeats = decode.LONG_PATTERN_REPEATS if long else decode.LOOP_REPEATS
    return max(repeats, -(-decode.LOOP_TOKENS // len(pattern)))


@given(before=st.lists(ids, max_size=60), token=ids)
def test_one_token_over_and_over_is_a_loop(before: list[int], token: int) -> None:
    assert loops([*before, *[token] * decode.LOOP_TOKENS])


@given(before=st.lists(ids, max_size=60), pattern=st.lists(ids, min_size=1, max_size=80))
def test_a_pattern_over_and_over_is_a_loop_whatever_came_before(
    before: list[int], pattern: list[int]
) -> None:
    assert loops(before + pattern * enough(pattern))


@given(pattern=st.lists(ids, min_size=2, max_size=80), cut=st.integers(0, 79))
def test_a_loop_is_seen_wherever_in_the_pattern_it_stands(pattern: list[int], cut: int) -> None:
    assert loops(pattern * enough(pattern) + pattern[: cut % len(pattern)])


@given(
    before=st.lists(ids, max_size=60, unique=True),
    pattern=st.lists(ids, min_size=1, max_size=80, unique=True),
)
def test_a_pattern_said_once_too_few_is_no_loop(before: list[int], pattern: list[int]) -> None:
    # Negative ids are in no pattern, so what comes before does not lengthen it.
    assert not loops([-1 - token for token in before] + pattern * (enough(pattern) - 1))


@given(pattern=st.lists(ids, min_size=1, max_size=40))
def test_an_answer_that_moved_on_is_no_loop(pattern: list[int]) -> None:
    assert not loops([*pattern * enough(pattern), -1])


@given(seed=st.integers(), vocabulary=st.integers(5, 50_000), length=st.integers(0, 600))
def test_noise_is_no_loop(seed: int, vocabulary: int, length: int) -> None:
    noise = random.Random(seed)
    assert not loops([noise.randrange(vocabulary) for _ in range(length)])


def test_a_numbered_table_is_no_loop_at_any_row() -> None:
    said_so_far: list[int] = []
    for row in range(1, 120):
        said_so_far += map(ord, f"| {row} | cat | yes | 12.50 |\n")
        assert not loops(said_so_far)


class Counted(list[int]):
    """A list that counts how many of its items were looked at."""

    looked_at = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        self.looked_at += len(found) if isinstance(key, slice) else 1
        return found


def test_looking_for_a_loop_costs_no_more_than_a_few_looks_a_token() -> None:
    noise = random.Random(0)
    for vocabulary, looks in ((10**9, 2), (1000, 10)):
        long = Counted(noise.randrange(vocabulary) for _ in range(4096))
        assert not loops(long)
        assert long.looked_at <= looks * len(long)


# --- words ---

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=REPLACEMENT)) | (
    st.text("a cat. don't\n\t😀👩‍👧日本語ก́é<|im_end|></s>", max_size=20)
)


def tidying(tokenizer: Any) -> Any:
    """As BERT's is published: it takes spaces out before punctuation once more."""
    tokenizer.clean_up_tokenization_spaces = True
    return tokenizer


def as_it_is(tokenizer: Any) -> Any:
    return tokenizer


KINDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "byte level": ("qwen2_vl", as_it_is),
    "sentencepiece": ("gemma3", as_it_is),
    "sentencepiece with a prefix": ("llava", as_it_is),
    "wordpiece": ("blip", as_it_is),
    "wordpiece that tidies up": ("blip", tidying),
}


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tiny: Callable[[str], Path]) -> Any:
    family, change = KINDS[request.param]
    return change(AutoTokenizer.from_pretrained(tiny(family), local_files_only=True))


@given(text=ANY_TEXT)
def test_the_pieces_of_any_text_make_up_the_text_and_show_no_half_character(
    tokenizer: Any, text: str
) -> None:
    tokens = tokenizer.encode(text)
    whole = tokenizer.decode(tokens, skip_special_tokens=True)
    words = Words(tokenizer)

    out = [*(words.push(token) for token in tokens), words.flush()]

    assert "".join(out) == whole
    assert REPLACEMENT in whole or not any(REPLACEMENT in piece for piece in out)


@pytest.mark.parametrize("tokenizer", ["byte level", "sentencepiece"], indirect=True)
@given(text=ANY_TEXT)
def test_nothing_of_a_whole_text_waits_for_the_end(tokenizer: Any, text: str) -> None:
    words = Words(tokenizer)
    for token in tokenizer.encode(text):
        words.push(token)
    assert words.flush() == ""


@pytest.mark.parametrize("tokenizer", ["byte level"], indirect=True)
def test_a_text_comes_with_its_token_and_a_character_with_its_last_byte(tokenizer: Any) -> None:
    *plain, first_half, second_half = tokenizer.encode("a cat, é", add_special_tokens=False)
    words = Words(tokenizer)
    assert [words.push(token) for token in plain] == [tokenizer.decode([t]) for t in plain]
    assert (words.push(first_half), words.push(second_half)) == ("", "é")


@pytest.mark.parametrize("tokenizer", ["byte level", "wordpiece"], indirect=True)
@given(data=st.data())
def test_any_row_of_tokens_gives_what_decoding_it_at_once_gives(
    tokenizer: Any, data: st.DataObject
) -> None:
    """Models also say halves of characters, special tokens, and ids that no token has."""
    row = data.draw(st.lists(st.integers(0, len(tokenizer) + 2), max_size=12))
    words = Words(tokenizer)
    out = [*(words.push(token) for token in row), words.flush()]
    assert "".join(out) == tokenizer.decode(row, skip_special_tokens=True)


@pytest.mark.parametrize("tokenizer", ["byte level", "sentencepiece"], indirect=True)
def test_an_answer_cut_inside_a_character_shows_that_it_was(tokenizer: Any) -> None:
    *tokens, _ = tokenizer.encode("a 日", add_special_tokens=False)
    words = Words(tokenizer)
    out = "".join(words.push(token) for token in tokens)
    assert out == "a "
    assert set(words.flush()) == {REPLACEMENT}


@pytest.mark.parametrize("tokenizer", ["byte level"], indirect=True)
def test_special_tokens_are_not_text(tokenizer: Any) -> None:
    words = Words(tokenizer)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end is not None
    assert (words.push(end), words.flush()) == ("", "")


# --- the thread ---


def test_what_is_emitted_comes_in_order_and_the_end_comes_last_and_once() -> None:
    def run(emit: Callable[[Delta], None]) -> Done:
        for n in range(1000):
            emit(Delta(f"{n} "))
        return DONE

    *deltas, last = decode.stream(run)

    assert deltas == [Delta(f"{n} ") for n in range(1000)]
    assert last is DONE


def test_an_empty_text_is_no_chunk() -> None:
    def run(emit: Callable[[Delta], None]) -> Done:
        for text in ("", "a", "", "b", ""):
            emit(Delta(text))
        return DONE

    assert [*decode.stream(run)] == [Delta("a"), Delta("b"), DONE]


def test_the_text_comes_while_the_work_goes_on() -> None:
    read = threading.Event()

    def run(emit: Callable[[Delta], None]) -> Done:
        emit(Delta("first"))
        assert read.wait(PATIENCE_S)  # for ever, were the text kept until the end
        return DONE

    chunks = decode.stream(run)
    assert next(chunks) == Delta("first")
    read.set()
    assert [*chunks] == [DONE]


@pytest.mark.parametrize("kind", [ValueError, MemoryError, KeyboardInterrupt, SystemExit])
def test_what_goes_wrong_in_the_worker_is_raised_in_the_reader(kind: type[BaseException]) -> None:
    wrong = kind("out of luck")

    def run(emit: Callable[[Delta], None]) -> Done:
        emit(Delta("so far"))
        raise wrong

    read: list[object] = []

    def reader() -> None:
        try:
            read.extend(decode.stream(run))
        except BaseException as error:
            read.append(error)

    # On a thread of its own, so that an error that is lost is a failure and not a test without end.
    thread = threading.Thread(target=reader, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert read == [Delta("so far"), wrong]


def test_closing_the_iterator_stops_the_worker_at_its_next_text() -> None:
    closed, stopped = threading.Event(), threading.Event()
    emitted_after: list[str] = []

    def run(emit: Callable[[Delta], None]) -> Done:
        emit(Delta("one"))
        assert closed.wait(PATIENCE_S)
        try:
            emit(Delta(""))  # no text of its own, as for half a character
            emitted_after.append("two")
        finally:
            stopped.set()
        return DONE

    chunks = decode.stream(run)
    assert next(chunks) == Delta("one")
    chunks.close()  # type: ignore[attr-defined]
    closed.set()

    assert stopped.wait(PATIENCE_S)
    assert emitted_after == []
    assert [*chunks] == []


def test_a_broken_byte_after_a_byte_token_loses_nothing(tiny: Callable[[str], Path]) -> None:
    """Gemma and Llama 2 spell a newline as a byte; a stray byte after it changes both."""
    tokenizer = AutoTokenizer.from_pretrained(tiny("llava"))
    ids = tokenizer.convert_tokens_to_ids(["<0x0A>", "<0xE3>", "▁the"])
    words = Words(tokenizer)

    assert "".join([*(words.push(token) for token in ids), words.flush()]) == "\n\ufffd the"


@pytest.mark.parametrize("pieces", [["abcd"], ["a", "b", "c", "d"], ["ab", "cd"]])
def test_the_stop_that_is_complete_first_counts_however_the_text_is_cut(pieces: list[str]) -> None:
    stops = Stops(("abcd", "c"))

    assert "".join(stops.push(piece) for piece in pieces) == "ab"
    assert stops.found
