"""The one thread on which models compute."""

import os
import subprocess
import sys
from pathlib import Path
from threading import current_thread

import pytest
import torch
from conftest import DATA

from vlmcli.cpu import worker


def products() -> int:
    """Threads that the next product is computed with, once one was."""
    torch.randn(256, 256) @ torch.randn(256, 256)
    return torch.get_num_threads()


def test_models_compute_with_all_threads_and_the_program_with_one() -> None:
    before = torch.get_num_threads()
    try:
        assert worker.do(products) == worker.threads()
        torch.set_num_threads(1)
        assert worker.do(products) == worker.threads()
    finally:
        torch.set_num_threads(before)


def test_what_the_work_raises_is_raised_where_it_was_wanted() -> None:
    def work() -> None:
        raise LookupError("nothing here")

    with pytest.raises(LookupError, match="nothing here"):
        worker.do(work)
    assert worker.do(lambda: current_thread().name) == "vlm computing"


def test_work_that_begins_more_work_does_not_wait_for_itself() -> None:
    assert worker.do(lambda: worker.do(lambda: 7)) == 7


@pytest.mark.slow
def test_an_answer_is_computed_by_one_team_of_threads(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vlmcli", "ask", str(DATA / "chart.png"), "highest bar?"]
    two = {"OMP_NUM_THREADS": "2"}
    told = {**two, "OMP_DISPLAY_AFFINITY": "TRUE", "OMP_AFFINITY_FORMAT": "team of %N"}
    kept = {**two, "VLM_CACHE_DIR": str(tmp_path)}  # what is measured once has a team for a while
    for extra in (kept, kept | told):
        options = [*command, "-m", "builtin", "--quantize", "int8", "--no-cache"]
        ended = subprocess.run(options, env=os.environ | extra, capture_output=True, text=True)
        assert ended.returncode == 0
    # Each of the two threads of a team tells of itself; another OpenMP than GNU's tells nothing.
    assert (ended.stdout + ended.stderr).count("team of 2") in (0, 2)
