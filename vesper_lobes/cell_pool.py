"""Cells of a run side by side (ours): a head keeps one core busy, so there is one for each core.

A cell depends on no other cell and computes on one thread wherever it runs, so what comes out is
the same to the bit. Processes are started only where they pay. Their number is that of PyTorch's
threads (``OMP_NUM_THREADS``); with a single one, on a GPU, for heads on frames, which use all
cores anyway, or where processes could not import the Brain's class (a notebook), cells follow one
another.
"""

import logging
import multiprocessing
import os
import pickle
import signal
import sys
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

logger = logging.getLogger(__name__)

STEPS_WORTH = 8000  # of training from which on processes pay; 2 to 3 ms each, the imports 5 s
MOST_PROCESSES = 61  # that Windows can wait for


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
        If a process could not start, or was ended from outside, by the system for want of memory
        for instance.

    Notes
    -----
    Close it (``contextlib.closing``) where an exception may end the loop over it: until then the
    processes go on.
    """
    common = (brain_class, hparams_file, run_opts, corpus)
    tasks, path = list(tasks), None
    processes = min(len(tasks), usable_processes(states, run_opts), MOST_PROCESSES)
    if processes > 1 and len(tasks) * steps >= STEPS_WORTH and is_importable(brain_class):
        path = write_states(states, Path(scratch))
    if path is None:
        for task in tasks:
            yield _train(common, states, task)
        return
    try:
        yield from _in_processes(common, tasks, processes, path)
    finally:
        path.unlink(missing_ok=True)


def usable_processes(states, run_opts):
    """How many processes heads on these states may take."""
    device = str(run_opts.get("device") or infer_device())
    pooled = isinstance(states, (torch.Tensor, np.ndarray))
    return torch.get_num_threads() if pooled and device == "cpu" else 1


def is_importable(brain_class):
    """Whether another process finds the class by its name: not one of a notebook or a function.

    Example
    -------
    >>> is_importable(CellTask), is_importable(type("Local", (), {"__qualname__": "f.Local"}))
    (True, False)
    """
    if "." in brain_class.__qualname__:
        return False
    module = sys.modules.get(brain_class.__module__)
    has_file = os.path.isfile(getattr(module, "__file__", None) or "")
    return has_file and getattr(module, brain_class.__name__, None) is brain_class


def write_states(states, scratch):
    """The states in a file that processes map into memory, one copy for all of them.

    Returns
    -------
    pathlib.Path or None
        None where the disk has no room for it.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    for left in scratch.glob(".states.*.npy"):  # of a run that was killed
        if not _is_running(int(left.name.split(".")[2])):
            left.unlink(missing_ok=True)
    path = scratch / f".states.{os.getpid()}.npy"
    try:
        np.save(path, np.asarray(states))
    except OSError as error:
        path.unlink(missing_ok=True)
        logger.warning("heads are trained one by one: no room for their states: %s", error)
        return None
    return path


def _is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        pass
    return True


def _train(common, states, task):
    brain_class, hparams_file, run_opts, corpus = common
    return train_cell(
        *(brain_class, hparams_file, task.overrides, run_opts),
        *(states, corpus, task.fold, task.folder, task.key),
    )


def _in_processes(common, tasks, processes, path):
    """The tasks' cells in order; when this ends, for whatever reason, no process is left.

    What all share goes to each process once, a number for each cell: what a full pipe holds back
    would keep Python before 3.11.5 from ever ending an interrupted pool.
    """
    # macOS offers forkserver too, but its libraries do not survive a fork
    method = "forkserver" if sys.platform == "linux" else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(processes, context, _begin, (common, tasks, str(path)))
    try:
        yield from pool.map(_work, range(len(tasks)))
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a process that trained heads could not start (its own words are above) or was ended "
            "from outside, perhaps for want of memory. Run again, with OMP_NUM_THREADS=1 for one "
            "head at a time in this process: finished heads are kept."
        ) from error
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_worker = {}  # of a process started by `_in_processes`: what all of its tasks share


def _begin(common, tasks, path):
    """First thing in a process: takes what is shared; dies with the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that started it
    torch.set_num_threads(1)
    _worker.update(common=common, tasks=tasks, states=np.load(path, mmap_mode="r"))
    sentinel = multiprocessing.parent_process().sentinel
    threading.Thread(target=_end_with, args=(sentinel,), daemon=True).start()


def _end_with(sentinel):
    wait([sentinel])
    os._exit(1)


def _work(number):
    try:
        return _train(_worker["common"], _worker["states"], _worker["tasks"][number])
    except Exception as error:
        raise sendable(error) from error


def sendable(error):
    """The error itself, or its words where it would not come out of a pipe again.

    Example
    -------
    >>> class Odd(Exception):
    ...     def __init__(self, name, value):
    ...         super().__init__(f"{name} is {value}")
    >>> sendable(Odd("lr", 3)), sendable(ValueError("lr"))
    (RuntimeError('Odd: lr is 3'), ValueError('lr'))
    """
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
