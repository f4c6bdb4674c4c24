"""Every setting, once: its default, its kind, its flags, its range and its help."""

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any

from vlmcli import choices, details, schemas
from vlmcli.errors import UsageError
from vlmcli.messages import Sampling


def setting(
    default: object,
    *flags: str,
    kind: type,
    help_text: str,
    least: float | None = None,
    most: float | None = None,
    panel: str = "Model",
    parse: Callable[[Any], object] | None = None,
) -> Any:
    """A field of `Settings`; `least` and `most` are the closed range of a number.

    `parse` reads a value further, and raises UsageError.
    """
    table = {
        "flags": flags,
        "kind": kind,
        "help": help_text,
        "least": least,
        "most": most,
        "panel": panel,
        "parse": parse,
    }
    return field(default=default, metadata=table)


QUANTIZATIONS = ("none", "int8", "int4", "auto")


def _quantization(value: str) -> str:
    if value not in QUANTIZATIONS:
        raise UsageError(f"{value!r} is not one", hint=f"one of {', '.join(QUANTIZATIONS)}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a user can set; sizes in pixels or bytes, times in seconds."""

    model: str = setting(
        "auto",
        "-m",
        "--model",
        kind=str,
        help_text="Folder, Hub name (owner/name[@revision]), or auto.",
    )
    revision: str | None = setting(
        None, "--revision", kind=str, help_text="Branch, tag or commit of the model on the Hub."
    )
    offline: bool = setting(
        False,
        "--offline/--online",
        kind=bool,
        help_text="Use models that are in the cache; ask the Hub nothing.",
    )
    allow_pickle: bool = setting(
        False,
        "--allow-pickle/--no-pickle",
        kind=bool,
        help_text="Take pickled weights where there are no others; they can run any code.",
    )
    trust_remote_code: bool = setting(
        False,
        "--trust-remote-code/--no-remote-code",
        kind=bool,
        help_text="Run the program code that a model brings along; its files are listed first.",
    )
    device: str = setting(
        "auto", "--device", kind=str, help_text="cuda, cuda:1, mps, xpu, cpu, or auto."
    )
    dtype: str = setting(
        "auto", "--dtype", kind=str, help_text="bfloat16, float16, float32, or auto."
    )  # fmt: skip
    quantize: str = setting(
        "none",
        "--quantize",
        kind=str,
        help_text="int8, int4 or auto: smaller weights, faster on a CPU, not quite the same words.",
        parse=_quantization,
    )
    cache: bool = setting(
        True,
        "--cache/--no-cache",
        kind=bool,
        help_text="Keep what the model saw in a picture, for the next question about it.",
    )
    detail: str = setting(
        "auto",
        "--detail",
        kind=str,
        help_text="How finely pictures are seen: low is one view, auto their own pixels (on a CPU"
        " up to a million), high all of them, max what the model's processor enlarges them to.",
        panel="Pictures",
        parse=details.parse,
    )
    max_image_tokens: int | None = setting(
        None,
        "--max-image-tokens",
        kind=int,
        least=1,
        help_text="Most tokens that one picture may take in the prompt.",
        panel="Pictures",
    )
    system: str | None = setting(
        None,
        "-s",
        "--system",
        "--system-prompt",
        kind=str,
        help_text="System prompt.",
        panel="Answer",
    )
    lang: str | None = setting(
        None, "--lang", kind=str, help_text="Language of the answer: ja, de, …", panel="Answer"
    )
    max_tokens: int = setting(
        512,
        "-n",
        "--max-tokens",
        "--max-new-tokens",
        kind=int,
        least=1,
        help_text="Longest answer, in tokens.",
        panel="Answer",
    )
    temperature: float = setting(
        0.0,
        "-t",
        "--temperature",
        "--temp",
        kind=float,
        least=0,
        most=100,
        help_text="0 takes the likeliest token each time; more is more varied.",
        panel="Answer",
    )
    top_p: float | None = setting(
        None,
        "--top-p",
        kind=float,
        least=0,
        most=1,
        help_text="Sample from the likeliest tokens that together have this probability.",
        panel="Answer",
    )
    top_k: int | None = setting(
        None,
        "--top-k",
        kind=int,
        least=1,
        help_text="Sample from this many likeliest tokens.",
        panel="Answer",
    )
    min_p: float | None = setting(
        None,
        "--min-p",
        kind=float,
        least=0,
        most=1,
        help_text="Sample from tokens at least this likely, relative to the likeliest.",
        panel="Answer",
    )
    repetition_penalty: float | None = setting(
        None,
        "--repetition-penalty",
        "--repeat-penalty",
        kind=float,
        least=0.01,
        most=100,
        help_text="Above 1 discourages words already used.",
        panel="Answer",
    )
    seed: int | None = setting(
        None,
        "--seed",
        kind=int,
        least=0,
        most=2**63 - 1,
        help_text="The same seed gives the same text.",
        panel="Answer",
    )
    stop: tuple[str, ...] = setting(
        (),
        "--stop",
        kind=tuple,
        help_text="End the answer before this text; repeatable.",
        panel="Answer",
    )
    choices: tuple[str, ...] = setting(
        (),
        "--choices",
        kind=tuple,
        help_text="The answer is the likeliest of these: cat,dog,bird, a JSON list, or @FILE.",
        panel="Answer",
        parse=choices.parse,
    )
    schema: str | None = setting(
        None,
        "--schema",
        "--json-schema",
        kind=str,
        help_text="The answer is JSON of this: a schema, its FILE, or 'name, age int, tags [str]'.",
        panel="Answer",
        parse=schemas.parse,
    )
    schema_multi: str | None = setting(
        None,
        "--schema-multi",
        kind=str,
        help_text="As --schema, for any number of them.",
        panel="Answer",
        parse=schemas.parse_multi,
    )
    extract: bool = setting(
        False,
        "-x/--no-extract",
        "--extract",
        kind=bool,
        help_text="Only the first code block of the answer.",
        panel="Answer",
    )
    stream: bool = setting(
        True, "--stream/--no-stream", kind=bool, help_text="Print as it is written.", panel="Output"
    )
    json: bool = setting(
        False, "--json/--no-json", kind=bool, help_text="One JSON object an answer.", panel="Output"
    )
    hide_reasoning: bool = setting(
        False,
        "-R/--show-reasoning",
        "--hide-reasoning",
        kind=bool,
        help_text="Leave out what a reasoning model thinks first; it is shown on stderr.",
        panel="Output",
    )
    stats: bool = setting(
        False,
        "--stats/--no-stats",
        kind=bool,
        help_text="Tokens and times, on stderr.",
        panel="Output",
    )
    verbose: bool = setting(
        False,
        "-v/--no-verbose",
        "--verbose",
        kind=bool,
        help_text="Say what was chosen and why, on stderr.",
        panel="Output",
    )
    max_cache_bytes: int = setting(
        1_000_000_000,
        "--max-cache-bytes",
        kind=int,
        least=1,
        help_text="Most that is kept of what was seen, in bytes.",
        panel="Limits",
    )
    max_pixels: int = setting(
        200_000_000,
        "--max-pixels",
        kind=int,
        least=1,
        help_text="Largest picture, in pixels.",
        panel="Limits",
    )
    max_download_bytes: int = setting(
        100_000_000,
        "--max-download-bytes",
        kind=int,
        least=1,
        help_text="Largest file from a URL or stdin, in bytes.",
        panel="Limits",
    )
    url_timeout: float = setting(
        30.0,
        "--url-timeout",
        kind=float,
        least=0.001,
        most=86_400,
        help_text="Longest wait for a URL, in seconds.",
        panel="Limits",
    )
    origins: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def sampling(self) -> Sampling:
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
            stop=self.stop,
            schema=self.schema or self.schema_multi,
        )

    def in_words(self) -> "Settings":
        """Without what asks for another form of an answer."""
        return self._without(FORMS)

    def unasked(self) -> "Settings":
        """Without all that is set of the answer."""
        return self._without(ANSWERING)

    def typed(self) -> frozenset[str]:
        """The names of what was given on the command line."""
        return frozenset(name for name, origin in self.origins.items() if origin[:1] == "-")

    def _without(self, names: tuple[str, ...]) -> "Settings":
        return replace(self, **{name: TABLE[name].default for name in names})  # type: ignore[arg-type]

    @property
    def answering(self) -> dict[str, object]:
        """By name, what is not at its default and can change the words of an answer."""
        return self._changed((*SEEING, *ANSWERING))

    @property
    def seeing(self) -> dict[str, object]:
        """`answering`, as far as it is settled when the model is loaded."""
        return self._changed(SEEING)

    def _changed(self, names: tuple[str, ...]) -> dict[str, object]:
        return {name: v for name in names if (v := getattr(self, name)) != TABLE[name].default}


TABLE: Mapping[str, "Field[Any]"] = {f.name: f for f in fields(Settings) if f.metadata}
"""Every setting by name, in the order of `--help`."""

ANSWERING = tuple(name for name, one in TABLE.items() if one.metadata["panel"] == "Answer")
"""What is set of an answer, and can change its words."""

SEEING = ("quantize", "detail", "max_image_tokens")
"""What is set of a model as it is loaded, and can change the words of every answer."""

UNASKED = tuple(name for name in TABLE if name not in (*ANSWERING, "stream", "hide_reasoning"))
"""What is set for a command whose questions or answers are none of the user's words."""

FORMS = ("choices", "schema", "schema_multi", "extract")
"""What an answer looks like: for answers that are read by programs, and not in a chat."""
