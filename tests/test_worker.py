"""The one thread on which models compute."""

from threading import current_thread

import pytest
import torch

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
