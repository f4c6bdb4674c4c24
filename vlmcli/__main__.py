"""`python -m vlmcli` is `vlm`."""

from vlmcli.app import run

if __name__ == "__main__":
    run()
