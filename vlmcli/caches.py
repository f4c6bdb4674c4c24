"""What can be made again, kept in files: where they are."""

import os
from pathlib import Path


def folder() -> Path:
    """Where vlm keeps what it can make again; there need not be such a folder."""
    if override := os.environ.get("VLM_CACHE_DIR"):
        return Path(override)
    import platformdirs

    return platformdirs.user_cache_path("vlm")
