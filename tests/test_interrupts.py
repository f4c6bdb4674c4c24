"""Ctrl-C while something else is being tidied up."""

import signal
from collections.abc import Iterator

import pytest

from vlmcli.interrupts import first_only


@pytest.fixture
def heeded() -> Iterator[None]:
    """Ctrl-C means what it means in the foreground, wherever the tests run."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded")
def test_only_the_first_ctrl_c_raises_and_later_all_is_as_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    raised = 0
    with first_only():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raised += 1
        signal.raise_signal(signal.SIGINT)
    assert raised == 1
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_program_that_ignores_ctrl_c_goes_on_doing_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with first_only():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
