"""`vlm prompts`: saved prompts; a file for each sub-command."""

from vlmcli.commands.groups import LazyGroup, group_of

COMMANDS = {
    "ls": ("vlmcli.commands.prompts_ls", "List the saved prompts."),
    "save": ("vlmcli.commands.prompts_save", "Save a prompt under a name."),
    "show": ("vlmcli.commands.prompts_show", "Print a saved prompt."),
    "rm": ("vlmcli.commands.prompts_rm", "Remove saved prompts."),
    "path": ("vlmcli.commands.prompts_path", "Print where they are, to edit them."),
}


class Prompts(LazyGroup):
    """The commands about saved prompts; `vlm prompts` alone lists them."""

    table = COMMANDS
    otherwise = "ls"


def prompts() -> None:
    """Prompts saved under names, for -T of caption, ask, video and compare.

    Each is a plain text file beside config.toml. $name or ${name} in it is a variable, which -D
    fills in; a dollar sign is written $$. Without a command, ls.

    Example: vlm prompts save receipt 'What is the total, in $currency?'
    """


app = group_of(prompts, Prompts)
