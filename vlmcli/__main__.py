"""The console script; `python -m vlmcli` is `vlm`."""

import sys
from contextlib import suppress

from vlmcli import __version__


def run() -> None:
    """One run of `vlm`. The version is told before anything is imported for the command line."""
    if sys.argv[1:] in (["--version"], ["-V"]) and sys.stdout is not None:
        with suppress(OSError):  # `app` says what is wrong with stdout
            print(f"vlm {__version__}", flush=True)
            return
    from vlmcli import app

    app.run()


if __name__ == "__main__":
    run()
