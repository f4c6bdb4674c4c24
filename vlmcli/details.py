"""How finely pictures can be seen, from the coarsest to the finest."""

from vlmcli.errors import UsageError

DETAILS = ("low", "auto", "high", "max")


def parse(given: str) -> str:
    """The detail as it is called here. Raises UsageError for what is none."""
    name = given.strip().lower()
    if name not in DETAILS:
        raise UsageError(f"{given!r} is no detail", hint=f"one of {', '.join(DETAILS)}")
    return name
