"""The settings as options, the same on every command, from the one table in `config`."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from vlmcli import prompts
from vlmcli.details import DETAILS
from vlmcli.models import names
from vlmcli.settings import QUANTIZATIONS, TABLE

Recursive = Annotated[bool, typer.Option("-r", "--recursive", help="Sub-folders too.")]
Attached = Annotated[
    list[str] | None,
    typer.Option(
        "-i",
        "--image",
        "-a",
        "--attachment",
        help="A picture; repeatable; seen after the FILES.",
        metavar="FILE",
    ),
]
Question = Annotated[
    str | None,
    typer.Option("-p", "--prompt", help="The question; all arguments are then pictures."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what the model would be given; load no weights.")
]
Template = Annotated[
    str | None,
    typer.Option(
        "-T",
        "--template",
        metavar="NAME",
        help="A saved prompt (see vlm prompts), or the file ./NAME.",
        autocompletion=prompts.completions,
    ),
]
Variables = Annotated[
    list[str] | None,
    typer.Option("-D", "--var", metavar="NAME=VALUE", help="A variable of it; repeatable."),
]

Spelling = Mapping[str, tuple[str, ...]]
"""Setting -> its flags in a command that needs the usual ones for something else."""

_COMPLETIONS: dict[str, Callable[..., Any]] = {
    "model": names.completions,
    "detail": lambda: [*DETAILS],
    "quantize": lambda: [*QUANTIZATIONS],
}

# Numbers are read by config, whose errors name the value; here they are texts.
_KINDS: dict[type, Any] = {
    str: (str | None, "TEXT"),
    int: (str | None, "N"),
    float: (str | None, "NUMBER"),
    bool: (bool | None, None),
    tuple: (list[str] | None, "TEXT"),
}


def with_settings(
    command: Callable[..., None], settings: Iterable[str], spelling: Spelling
) -> Callable[..., None]:
    """`command` with an option for each of `settings`; it is given those as the mapping `flags`.

    A flag that was not typed is None, so that the environment and the file can speak.
    """
    wanted = [name for name in TABLE if name in set(settings)]
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "flags"]

    def parsed(**values: object) -> None:
        flags = {name: values.pop(name) for name in wanted}
        command(**values, flags=flags)

    parameters = own + [
        _parameter(name, spelling.get(name, TABLE[name].metadata["flags"])) for name in wanted
    ]
    parsed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    parsed.__annotations__ = {p.name: p.annotation for p in parameters}
    parsed.__name__, parsed.__doc__ = command.__name__, command.__doc__
    return parsed


def _parameter(name: str, spelt: tuple[str, ...]) -> inspect.Parameter:
    table = TABLE[name].metadata
    kind, metavar = _KINDS[table["kind"]]
    option = typer.Option(
        *spelt,
        metavar=metavar,
        help=f"{table['help']}{_default_of(name)}",
        show_default=False,
        rich_help_panel=table["panel"],
        autocompletion=_COMPLETIONS.get(name),
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option]
    )


def _default_of(name: str) -> str:
    default = TABLE[name].default
    shown = isinstance(default, str | int | float) and not isinstance(default, bool)
    return f" [default: {default}]" if shown else ""


OPTIONAL = "[="
"""Starts the metavar of an option whose value can be left out, and is joined to it with a =."""


class Command(TyperCommand):
    """A command whose help groups its options: its own first, then the settings by panel."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # As GNU's tools do it: without a =, what comes next is no value but the next argument.
        alone = {
            flag
            for parameter in self.params
            if (parameter.metavar or "").startswith(OPTIONAL)
            for flag in parameter.opts
        }
        rest: list[str] = super().parse_args(ctx, [f"{a}=" if a in alone else a for a in args])
        return rest

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        arguments = (p.metavar for p in self.params if p.param_type_name == "argument")
        return ["[OPTIONS]", *(metavar for metavar in arguments if metavar)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                title = getattr(parameter, "rich_help_panel", None) or "Options"
                if parameter.param_type_name == "argument":
                    title = "Arguments"
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def app_of(
    command: Callable[..., None], settings: Iterable[str] = TABLE, spelling: Spelling | None = None
) -> typer.Typer:
    """A Typer app of this one command, with the options of `settings`: all of them, or a few."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})(
        with_settings(command, settings, spelling or {})
    )
    return app
