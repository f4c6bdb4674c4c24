"""The one thread on which models compute.

OpenMP keeps a team of threads for every thread that asks for one. With two teams there are more
threads than cores, and between two products each goes to sleep instead of waiting for the next: a
token of SmolVLM-256M in int8 then took 14 ms, and 9 with one team (2 cores). So no other thread has
a team, and what it multiplies it multiplies alone.
"""

from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from queue import SimpleQueue
from threading import Event, Thread, current_thread
from typing import TypeVar

import torch

from vlmcli import interrupts

T = TypeVar("T")

_jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()


@cache
def threads() -> int:
    """How many threads models compute with. From now on the caller, and every thread to come,
    multiplies alone: so it is asked before anything is multiplied."""
    count = torch.get_num_threads()
    ready = Event()

    def run() -> None:
        torch.set_num_threads(count)
        # A thread that first asks takes the number that was set last, wherever that was: now.
        assert torch.get_num_threads() == count
        ready.set()
        while True:
            current_thread().name = interrupts.IDLE
            job = _jobs.get()
            current_thread().name = interrupts.COMPUTING
            job()
            del job  # it holds a prompt, or a whole model

    Thread(target=run, name=interrupts.IDLE, daemon=True).start()
    ready.wait()
    torch.set_num_threads(1)
    return count


def begin(work: Callable[[], T]) -> "Future[T]":
    """What `work()` will return or raise, once all that was begun before is done."""
    future: Future[T] = Future()

    def job() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # handed to the caller, which raises it
            future.set_exception(error)

    threads()
    _jobs.put(job)
    return future


def do(work: Callable[[], T]) -> T:
    """What `work()` returns or raises. Ctrl-C need not wait for a product of large matrices."""
    if current_thread().name in (interrupts.IDLE, interrupts.COMPUTING):
        return work()
    return begin(work).result()
