"""vlm: ask vision-language models about pictures from the shell."""

__version__ = "0.1.0"
