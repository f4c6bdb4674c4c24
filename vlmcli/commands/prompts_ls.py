"""`vlm prompts ls`: the saved prompts."""

from collections.abc import Mapping

import typer

from vlmcli.commands.options import app_of
from vlmcli.errors import ExitCode, InputError


def ls(*, flags: Mapping[str, object]) -> None:
    """List the saved prompts: the name, the variables, and the first line.

    In a pipe: a line a prompt, with tabs, no titles.

    Example: vlm prompts ls
    """
    from vlmcli import config, output, prompts
    from vlmcli.output import Column

    settings = config.load(flags)
    texts, code = {}, ExitCode.OK
    for name, file in prompts.saved().items():
        try:
            texts[name] = prompts.read_file(file)
        except InputError as error:  # of one that was written by hand
            output.error(error)
            code = error.exit_code
    if settings.json:
        for name, text in texts.items():
            output.record({"name": name, "variables": prompts.variables(text), "text": text})
    elif texts:
        columns = (Column("NAME", style="cyan"), Column("VARIABLES"), Column("TEXT", spare=1))
        rows = [
            (name, " ".join(f"${one}" for one in prompts.variables(text)), text.splitlines()[0])
            for name, text in texts.items()
        ]
        output.table(columns, rows)
    elif not code:
        output.note('no prompt is saved yet; vlm prompts save NAME "…" makes one')
    if code:
        raise typer.Exit(code)


app = app_of(ls, settings=("json",))
