"""`vlm models`: what is on this machine, and what to do with it; a file for each sub-command."""

from vlmcli.commands.groups import LazyGroup, group_of

COMMANDS = {
    "ls": ("vlmcli.commands.models_ls", "List the models here, and those that are recommended."),
    "pull": ("vlmcli.commands.models_pull", "Fetch models, or what is new of them."),
    "rm": ("vlmcli.commands.models_rm", "Remove models, revisions and broken-off downloads."),
    "show": ("vlmcli.commands.models_show", "Tell everything about one model."),
    "default": ("vlmcli.commands.models_default", "Tell or set which model answers without -m."),
    "alias": ("vlmcli.commands.models_alias", "List, set or remove short names."),
    "verify": ("vlmcli.commands.models_verify", "Look for damaged files, and mend them."),
}


class Models(LazyGroup):
    """The commands about models; `vlm models` alone lists them."""

    table = COMMANDS
    otherwise = "ls"


def models() -> None:
    """The models on this machine, in the cache that all Hugging Face programs share.

    Without a command, ls.

    Example: vlm models ls
    """


app = group_of(models, Models)
