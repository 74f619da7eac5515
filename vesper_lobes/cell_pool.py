"""Cells of a run side by side (ours): a head keeps one core busy, so there is one for each core.

A cell depends on no other cell and computes on one thread wherever it runs, so what comes out is
the same to the bit. Processes are started only where they pay. Their number is that of PyTorch's
threads (``OMP_NUM_THREADS``); with a single one, on a GPU, or for heads on frames, which use all
cores anyway, cells follow one another.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from speechbrain.utils.distributed import infer_device

from vesper_lobes.emotion_cells import train_cell

STEPS_WORTH = 8000  # of training from which on processes pay; 2 to 3 ms each, the imports 5 s


class CellTask(NamedTuple):
    """What tells one cell from another; entries as for `train_cell`."""

    overrides: dict
    fold: object
    folder: str
    key: str


def train_cells(brain_class, hparams_file, run_opts, states, corpus, tasks, steps, scratch):
    """Train and evaluate heads, several at once where that is faster.

    Arguments
    ---------
    brain_class, hparams_file, run_opts, states, corpus
        As for :func:`vesper_lobes.emotion_cells.train_cell`.
    tasks : iterable of CellTask
    steps : int
        Of training in one of them, about.
    scratch : str or pathlib.Path
        Folder in which the states lie as a file while processes read them.

    Yields
    ------
    dict
        The cells, in the order of the tasks.

    Raises
    ------
    RuntimeError
        If a process was ended from outside, by the system for want of memory for instance.
    """
    common = (brain_class, hparams_file, run_opts, corpus)
    tasks = list(tasks)
    processes = min(len(tasks), usable_processes(states, run_opts))
    if processes > 1 and len(tasks) * steps >= STEPS_WORTH:
        yield from _in_processes(common, states, tasks, processes, Path(scratch))
    else:
        for task in tasks:
            yield _train(common, states, task)


def usable_processes(states, run_opts):
    """How many processes heads on these states may take."""
    device = str(run_opts.get("device") or infer_device())
    pooled = isinstance(states, (torch.Tensor, np.ndarray))
    return torch.get_num_threads() if pooled and device == "cpu" else 1


def _train(common, states, task):
    brain_class, hparams_file, run_opts, corpus = common
    return train_cell(
        *(brain_class, hparams_file, task.overrides, run_opts),
        *(states, corpus, task.fold, task.folder, task.key),
    )


def _in_processes(common, states, tasks, processes, scratch):
    """The tasks' cells in order; when this ends, for whatever reason, no process is left."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])
    others = set(multiprocessing.active_children())
    with states_file(states, scratch) as path:
        pool = ProcessPoolExecutor(processes, context, _begin, (common, str(path)))
        try:
            yield from pool.map(_work, tasks)
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a process that trained heads was ended from outside, perhaps for want of memory. "
                "Run again, with OMP_NUM_THREADS=1 for one head at a time: finished heads are kept."
            ) from error
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def states_file(states, scratch):
    """The states in a file that processes map into memory, one copy for all of them."""
    path = scratch / ".states.npy"
    scratch.mkdir(parents=True, exist_ok=True)
    np.save(path, np.asarray(states))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


_worker = {}  # of a process started by `_in_processes`: what all of its tasks share


def _begin(common, path):
    """First thing in a process: takes what is shared; dies with the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that started it
    torch.set_num_threads(1)
    _worker.update(common=common, states=np.load(path, mmap_mode="r"))
    sentinel = multiprocessing.parent_process().sentinel
    threading.Thread(target=_end_with, args=(sentinel,), daemon=True).start()


def _end_with(sentinel):
    wait([sentinel])
    os._exit(1)


def _work(task):
    return _train(_worker["common"], _worker["states"], task)
