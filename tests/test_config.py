"""Settings: which of four places wins, where a value came from, and what is refused and why."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from conftest import FakeEngine, Run
from hypothesis import assume, given
from hypothesis import strategies as st

from vlmcli import config, configfile
from vlmcli.details import DETAILS
from vlmcli.errors import UsageError
from vlmcli.messages import Sampling
from vlmcli.settings import FORMS, QUANTIZATIONS, TABLE

FILE = "there/config.toml"
YES, NO = ("1", "true", "Yes", " ON "), ("0", "False", "no", "off")
NUMBERS = [name for name in TABLE if TABLE[name].metadata["kind"] in (int, float)]

texts = st.text(min_size=1).filter(str.strip)


def in_range(name: str) -> st.SearchStrategy[Any]:
    """Values that a setting takes, in the type that it has in the end."""
    table = TABLE[name].metadata
    if name == "detail":
        return st.sampled_from(DETAILS)
    if name == "quantize":
        return st.sampled_from(QUANTIZATIONS)
    least, most = table["least"], table["most"]
    strategies: dict[type, st.SearchStrategy[Any]] = {
        str: texts,
        bool: st.booleans(),
        int: st.integers(least, most),
        float: st.floats(least, most, allow_nan=False, allow_infinity=False),
        tuple: st.lists(texts, min_size=1, max_size=1).map(tuple),  # as a variable can hold it
    }
    return strategies[table["kind"]]


def as_variable(value: object) -> str:
    """A value as one types it into the environment."""
    if isinstance(value, bool):
        return YES[0] if value else NO[0]
    return value[0] if isinstance(value, tuple) else str(value)


def some_settings() -> st.SearchStrategy[dict[str, Any]]:
    """Of any but the forms of an answer, which shut one another out."""
    names = [name for name in TABLE if name not in FORMS]
    return st.fixed_dictionaries({}, optional={name: in_range(name) for name in names})


def variable(name: str) -> str:
    return f"VLM_{name.upper()}"


# --- precedence ---


@given(flags=some_settings(), environment=some_settings(), file=some_settings())
def test_a_flag_beats_a_variable_beats_the_file_beats_the_default(
    flags: dict[str, Any], environment: dict[str, Any], file: dict[str, Any]
) -> None:
    variables = {variable(name): as_variable(value) for name, value in environment.items()}

    settings = config.resolve(flags, variables, file, FILE)

    for name, declared in TABLE.items():
        places = [
            (flags, config.long_flag(declared)),
            (environment, variable(name)),
            (file, f"{FILE}: {name}"),
            ({name: declared.default}, "default"),
        ]
        value, origin = next((place[name], where) for place, where in places if name in place)
        assert (getattr(settings, name), settings.origins[name]) == (value, origin)


@pytest.mark.parametrize("name", [name for name in TABLE if TABLE[name].metadata["parse"] is None])
@given(data=st.data())
def test_taking_the_highest_place_away_uncovers_the_next(name: str, data: st.DataObject) -> None:
    flag, typed, written = (data.draw(in_range(name)) for _ in range(3))
    variables, file = {variable(name): as_variable(typed)}, {name: written}

    steps = [
        config.resolve({name: flag}, variables, file, FILE),
        config.resolve({name: None}, variables, file, FILE),
        config.resolve({}, {variable(name): ""}, file, FILE),
        config.resolve({}, {}, {}, FILE),
    ]

    values = [flag, typed, written, TABLE[name].default]
    long = config.long_flag(TABLE[name])
    origins = [long, variable(name), f"{FILE}: {name}", "default"]
    assert [getattr(settings, name) for settings in steps] == values
    assert [settings.origins[name] for settings in steps] == origins


@pytest.mark.parametrize(
    ("name", "off"), [("temperature", 0.0), ("seed", 0), ("stream", False), ("top_p", 0.0)]
)
def test_a_flag_that_is_zero_or_false_was_given_all_the_same(name: str, off: object) -> None:
    settings = config.resolve({name: off}, {variable(name): "1"}, {name: 1})
    assert (getattr(settings, name), settings.origins[name]) == (off, config.long_flag(TABLE[name]))


def test_a_repeatable_flag_that_was_not_typed_leaves_the_word_to_the_file() -> None:
    assert config.resolve({"stop": ()}, {}, {"stop": ["END", "."]}).stop == ("END", ".")


def test_resolve_looks_only_at_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLM_SEED", "7")
    flags, environment, file = {"top_k": 3}, {"VLM_MIN_P": "0.5"}, {"system": "Be brief."}

    settings = config.resolve(*map(MappingProxyType, (flags, environment, file)))

    assert settings.seed is None
    assert (settings.top_k, settings.min_p, settings.system) == (3, 0.5, "Be brief.")


@given(some_settings())
def test_what_is_set_about_sampling_reaches_the_sampling(file: dict[str, Any]) -> None:
    settings = config.resolve({}, {}, file)
    for name in Sampling.__dataclass_fields__:  # a schema has two settings
        assert getattr(settings.sampling, name) == getattr(settings, name)


# --- values from the environment and the file ---


@pytest.mark.parametrize("name", [n for n in TABLE if TABLE[n].metadata["kind"] is bool])
@pytest.mark.parametrize(("words", "value"), [(YES, True), (NO, False)])
def test_a_variable_says_yes_and_no_in_the_usual_words(
    name: str, words: tuple[str, ...], value: bool
) -> None:
    for word in words:
        assert getattr(config.resolve({}, {variable(name): word}, {}), name) is value


@pytest.mark.parametrize("word", ["2", "maybe", "yess", " ", "None"])
def test_a_variable_that_says_neither_yes_nor_no_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="VLM_JSON: ") as caught:
        config.resolve({}, {"VLM_JSON": word}, {})
    assert f"{word!r} is not yes or no" in caught.value.message


def test_a_whole_number_is_good_where_a_number_is_asked_for() -> None:
    settings = config.resolve({}, {}, {"temperature": 1, "url_timeout": 5})
    assert (settings.temperature, settings.url_timeout) == (1.0, 5.0)
    assert isinstance(settings.temperature, float)


def test_one_text_in_the_file_or_a_variable_is_one_stop() -> None:
    assert config.resolve({}, {}, {"stop": "a, b"}).stop == ("a, b",)
    assert config.resolve({}, {"VLM_STOP": "a, b"}, {}).stop == ("a, b",)


# --- wrong values ---


def refusal(file: dict[str, object]) -> UsageError:
    with pytest.raises(UsageError) as caught:
        config.resolve({}, {}, file, FILE)
    return caught.value


@pytest.mark.parametrize(
    ("name", "wrong", "why"),
    [
        ("model", 3, "3 is not a text"),
        ("model", "", "the value is empty"),
        ("system", " \n", "the value is empty"),
        ("lang", ["de"], "['de'] is not a text"),
        ("offline", 1, "1 is not yes or no"),
        ("json", "maybe", "'maybe' is not yes or no"),
        ("seed", True, "True is not a whole number"),
        ("seed", 1.0, "1.0 is not a whole number"),
        ("seed", "one", "'one' is not a whole number"),
        ("seed", {"x": 1}, "{'x': 1} is not a whole number"),
        ("seed", -1, "-1 is too small; at least 0"),
        ("seed", 2**63, f"{2**63} is too large"),
        ("max_tokens", 0, "0 is too small; at least 1"),
        ("temperature", False, "False is not a number"),
        ("temperature", float("nan"), "nan is not a number"),
        ("temperature", float("inf"), "inf is not a number"),
        ("temperature", 10**400, "is not a number"),
        ("temperature", -0.1, "-0.1 is too small; at least 0"),
        ("top_p", 1.01, "1.01 is too large; at most 1"),
        ("repetition_penalty", 0, "0 is too small; at least 0.01"),
        ("stop", 5, "5 is not a text or a list of texts"),
        ("stop", [".", ""], "the value is empty"),
        ("stop", [".", 1], "['.', 1] is not a text or a list of texts"),
    ],
)
def test_a_wrong_value_is_named_with_where_it_stands(name: str, wrong: object, why: str) -> None:
    error = str(refusal({name: wrong}))
    assert error.startswith(f"{FILE}: {name}: ") and why in error


@pytest.mark.parametrize("name", NUMBERS)
@given(data=st.data())
def test_a_number_out_of_range_is_refused_from_every_place(name: str, data: st.DataObject) -> None:
    table = TABLE[name].metadata
    number = data.draw(st.integers() if table["kind"] is int else st.floats(allow_nan=False))
    least, most = table["least"], table["most"]
    assume(number < least or (most is not None and number > most))

    for flags, environment, file, origin in (
        ({name: number}, {}, {}, config.long_flag(TABLE[name])),
        ({}, {variable(name): str(number)}, {}, variable(name)),
        ({}, {}, {name: number}, f"{FILE}: {name}"),
    ):
        with pytest.raises(UsageError) as caught:
            config.resolve(flags, environment, file, FILE)
        assert caught.value.message.startswith(f"{origin}: ")
        assert str(number) in caught.value.message


toml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(name=st.sampled_from([*TABLE]), value=toml_values)
def test_whatever_the_file_holds_is_either_of_the_right_kind_or_named(
    name: str, value: object
) -> None:
    kind = TABLE[name].metadata["kind"]
    try:
        settings = config.resolve({}, {}, {name: value}, FILE)
    except UsageError as error:
        assert error.message.startswith(f"{FILE}: {name}: ")
    else:
        assert type(getattr(settings, name)) is kind


@pytest.mark.parametrize(
    ("typed", "meant"), [("modle", "model"), ("max-tokens", "max_tokens"), ("langs", "lang")]
)
def test_an_unknown_setting_is_answered_with_the_near_one(typed: str, meant: str) -> None:
    error = refusal({typed: 1})
    assert f"{FILE}: no setting is called {typed!r}" in error.message
    assert error.hint == f"did you mean {meant}?"


@pytest.mark.parametrize("name", ["quux", "origins"])
def test_an_unknown_setting_like_no_other_is_answered_with_the_list(name: str) -> None:
    error = refusal({name: {}})
    assert repr(name) in error.message
    assert all(setting in error.hint for setting in TABLE)


# --- the file, and the front door ---


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where VLM_CONFIG points to; there is nothing there yet."""
    file = tmp_path / "mine.toml"
    monkeypatch.setenv("VLM_CONFIG", str(file))
    return file


@pytest.mark.parametrize(
    "content",
    [b"model = ", b"model = 'a'\nmodel = 'b'", b"system = 'caf\xe9'", b"\x89PNG\r\n"],
    ids=["cut", "twice", "latin-1", "no text"],
)
def test_a_broken_file_exits_2_and_is_named(run: Run, config_file: Path, content: bytes) -> None:
    config_file.write_bytes(content)
    code, out, err = run("caption", "x.png")
    assert (code, out) == (2, "")
    assert f"{config_file}: not TOML" in err and err.count("\n") == 1


def test_a_file_that_cannot_be_read_exits_2_and_is_named(run: Run, config_file: Path) -> None:
    config_file.mkdir()
    code, out, err = run("caption", "x.png")
    assert (code, out) == (2, "")
    assert str(config_file) in err and err.count("\n") == 1


def test_a_wrong_value_in_the_file_exits_2_before_any_picture_is_read(
    run: Run, config_file: Path
) -> None:
    config_file.write_text("max_tokens = 'many'")
    code, out, err = run("caption", "x.png")
    assert (code, out) == (2, "")
    assert err == f"vlm: {config_file}: max_tokens: 'many' is not a whole number\n"


@pytest.mark.parametrize(
    ("flag", "value", "why"),
    [
        ("--max-tokens", "0", "--max-tokens: 0 is too small; at least 1"),
        ("--temp", "nan", "--temperature: 'nan' is not a number"),
        ("--model", "", "--model: the value is empty"),
        ("--stop", "", "--stop: the value is empty"),
    ],
)
def test_a_wrong_flag_exits_2_with_its_name(run: Run, flag: str, value: str, why: str) -> None:
    assert run("caption", "x.png", flag, value) == (2, "", f"vlm: {why}\n")


def test_a_wrong_variable_exits_2_with_its_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLM_TOP_P", "1.5")
    expected = "vlm: VLM_TOP_P: 1.5 is too large; at most 1\n"
    assert run("caption", "x.png") == (2, "", expected)


def test_what_the_file_says_reaches_the_model_unless_a_flag_says_otherwise(
    run: Run, config_file: Path, fake_engine: FakeEngine, picture: Path
) -> None:
    config_file.write_text("max_tokens = 7\nseed = 1\nstop = ['END']")

    code, _, _ = run("caption", picture, "--seed", "2")

    (_, sampling), *_ = fake_engine.calls
    assert code == 0
    assert (sampling.max_tokens, sampling.seed, sampling.stop) == (7, 2, ("END",))


def test_verbose_says_where_the_model_was_chosen(
    run: Run, fake_engine: FakeEngine, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLM_MODEL", "owner/name")
    _, out, err = run("caption", picture, "--verbose")
    assert "(VLM_MODEL)" in err and "VLM_MODEL" not in out


def test_no_file_at_all_means_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLM_CONFIG")
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))
    assert config.load({}) == config.resolve({}, {}, {})


def test_a_file_that_was_named_has_to_be_there(run: Run, config_file: Path) -> None:
    code, out, err = run("caption", "x.png")
    assert (code, out, err) == (2, "", f"vlm: VLM_CONFIG: {config_file}: no such file\n")


def test_vlm_config_names_the_file_that_is_read(config_file: Path) -> None:
    config_file.write_text("lang = 'de'")
    settings = config.load({})
    assert (settings.lang, settings.origins["lang"]) == ("de", f"{config_file}: lang")


def test_without_vlm_config_the_file_lies_in_the_users_folder_of_vlm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VLM_CONFIG", "")
    assert configfile.path().name == "config.toml" and "vlm" in configfile.path().parts


@pytest.mark.parametrize(
    "text",
    ['stop = ""', f"seed = {'1' * 5000}", f"seed = 0x{'f' * 5000}", f"stop = {'[' * 2000}"],
    ids=["empty", "digits", "hexadecimal", "brackets"],
)
def test_a_file_that_overdoes_it_is_one_line_too(run: Run, config_file: Path, text: str) -> None:
    config_file.write_text(text)
    code, out, err = run("caption", "x.png")

    assert (code, out) == (2, "")
    assert str(config_file) in err and err.count("\n") == 1
