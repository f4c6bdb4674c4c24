"""A command made of commands, which are listed from a table and imported when they are run."""

import difflib
import importlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

from vlmcli.errors import UsageError

Table = Mapping[str, tuple[str, str]]
"""Name -> module and one line of help."""


class LazyGroup(TyperGroup):
    """Lists its commands from `table`; `otherwise` is the one that runs where none is named."""

    table: ClassVar[Table] = {}
    otherwise: ClassVar[str] = ""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        option = bool(args) and args[0].startswith("-") and args[0] not in ctx.help_option_names
        if self.otherwise and not ctx.resilient_parsing and (not args or option):
            args = [self.otherwise, *args]
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:
        if cmd_name not in self.table:
            return None
        return TyperCommand(cmd_name, help=self.table[cmd_name][1])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name not in self.table:
            near = difflib.get_close_matches(name, self.table, n=1)
            hint = f"did you mean {ctx.command_path} {near[0]}?" if near else ""
            hint = hint or f"see {ctx.command_path} --help"
            raise UsageError(f"no command is called {name!r}", hint=hint)
        module = importlib.import_module(self.table[name][0])
        command = typer.main.get_command(module.app)
        command.name = name
        return name, command, args[1:]


def group_of(described: Callable[..., None], group: type[LazyGroup]) -> typer.Typer:
    """A Typer app of the group; `described` is its callback, whose docstring is its help."""
    app = typer.Typer(
        cls=group,
        context_settings={"help_option_names": ["-h", "--help"]},
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(described)
    return app
