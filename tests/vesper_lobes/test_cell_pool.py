"""Heads in several processes: the same cells to the bit, and no process left behind."""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from vesper_lobes import cell_pool
from vesper_lobes.emotion_brain import EmotionBrain
from vesper_lobes.emotion_cells import Corpus, Fold

ROOT = Path(__file__).resolve().parents[2]
YAML = ROOT / "recipes" / "EmoDB" / "emotion" / "hparams" / "vesper4.yaml"
EMOTIONS = ["anger", "neutral"]
RUN_OPTS = {"device": "cpu"}


def make_corpus(utterances=24):
    frame = pd.DataFrame({"ID": [f"u{n:02d}" for n in range(utterances)]})
    frame["emotion"] = [EMOTIONS[n % 2] for n in range(utterances)]
    frame["speaker"] = frame["dialogue"] = "s"
    ids = [list(frame["ID"][part::3]) for part in range(3)]
    folds = [Fold(k + 1, ids[k], ids[(k + 1) % 3], ids[(k + 2) % 3]) for k in range(3)]
    return Corpus(frame, EMOTIONS, folds), torch.randn(utterances, 3, 8)


def make_tasks(corpus, folder, **changes):
    fixed = {"data_folder": "", "encoder": "", "export": None, "classes": EMOTIONS}
    fixed |= {"num_classes": 2, "num_states": 3, "input_dim": 8, "output_folder": str(folder)}
    fixed |= {"number_of_epochs": 3, **changes}
    return [
        cell_pool.CellTask(
            {**fixed, "seed": 5, "fold": fold.number}, fold, f"{folder}/fold{fold.number}", "key"
        )
        for fold in corpus.folds
    ]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def train(corpus, states, tasks, scratch, steps):
    arguments = (EmotionBrain, str(YAML), RUN_OPTS, states, corpus, tasks, steps, scratch)
    return list(cell_pool.train_cells(*arguments))


def test_processes_make_the_same_cells_in_the_same_order(tmp_path, two_threads):
    corpus, states = make_corpus()
    found = {}
    for name, steps in (("alone", 1), ("together", 1_000_000)):
        folder = tmp_path / name
        cells = train(corpus, states, make_tasks(corpus, folder), folder, steps)
        found[name] = [{k: v for k, v in cell.items() if k != "seconds"} for cell in cells]
        assert [cell["fold"] for cell in cells] == [1, 2, 3]
        for fold in (1, 2, 3):
            stored = json.loads((folder / f"fold{fold}" / "cell.json").read_text())
            assert stored["history"] == cells[fold - 1]["history"]
        assert sorted(path.name for path in folder.iterdir()) == ["fold1", "fold2", "fold3"]
    assert found["alone"] == found["together"]
    for fold in (1, 2, 3):
        first, second = (
            (tmp_path / name / f"fold{fold}" / "predictions.csv").read_bytes() for name in found
        )
        assert first == second


def test_one_thread_on_demand_means_one_process(monkeypatch):
    assert cell_pool.usable_processes(torch.zeros(1), RUN_OPTS) == torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert cell_pool.usable_processes(np.zeros(1), RUN_OPTS) == 8
    assert cell_pool.usable_processes(np.zeros(1), {"device": "cuda:0"}) == 1
    assert cell_pool.usable_processes(object(), RUN_OPTS) == 1  # a cache of frames


def test_what_goes_wrong_in_a_process_is_said_in_this_one(tmp_path, two_threads):
    corpus, states = make_corpus()
    tasks = make_tasks(corpus, tmp_path, lr=-1.0)
    with pytest.raises(ValueError, match="rates must hold"):
        train(corpus, states, tasks, tmp_path, 1_000_000)
    assert not multiprocessing.active_children()
    assert not list(tmp_path.glob(".states*"))


SCRIPT = """
import sys, threading, time, multiprocessing, torch
sys.path.insert(0, {here!r})
import test_cell_pool as t

def tell():
    while len(multiprocessing.active_children()) < 2:
        time.sleep(0.05)
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)

if __name__ == "__main__":
    torch.set_num_threads(2)
    corpus, states = t.make_corpus()
    threading.Thread(target=tell, daemon=True).start()
    tasks = t.make_tasks(corpus, {folder!r}, number_of_epochs=1_000_000)
    t.train(corpus, states, tasks, {folder!r}, 1_000_000)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_run(tmp_path, how):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(here=str(Path(__file__).parent), folder=str(tmp_path)))
    run = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # a background job ignores Ctrl-C, and its children with it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    workers = [int(pid) for pid in run.stdout.readline().split()]
    assert len(workers) == 2
    run.send_signal(how)
    assert run.wait(timeout=30) != 0
    deadline = time.time() + 30
    while any(is_alive(pid) for pid in workers) and time.time() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in workers if is_alive(pid)]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_what_a_killed_run_left_is_removed_and_a_running_ones_stays(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for pid in (ended.pid, os.getppid()):
        (tmp_path / f".states.{pid}.npy").write_bytes(b"old")
    path = cell_pool.write_states(torch.ones(2), tmp_path)
    assert np.load(path).tolist() == [1.0, 1.0]
    assert {p.name for p in tmp_path.iterdir()} == {path.name, f".states.{os.getppid()}.npy"}


def test_a_full_disk_means_one_process(tmp_path, two_threads, monkeypatch, caplog):
    def full(path, array):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cell_pool.np, "save", full)
    corpus, states = make_corpus()
    assert len(train(corpus, states, make_tasks(corpus, tmp_path), tmp_path, 1_000_000)) == 3
    assert "No space left" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fold1", "fold2", "fold3"]


def test_a_class_that_processes_cannot_import_is_trained_in_this_one(tmp_path, two_threads):
    class Local(EmotionBrain):
        """Of a function, as those of notebooks are of a session."""

    corpus, states = make_corpus()
    arguments = (Local, str(YAML), RUN_OPTS, states, corpus, make_tasks(corpus, tmp_path))
    assert len(list(cell_pool.train_cells(*arguments, 1_000_000, tmp_path))) == 3
    assert not cell_pool.is_importable(Local) and cell_pool.is_importable(EmotionBrain)


def test_closing_ends_the_processes_at_once(tmp_path, two_threads):
    corpus, states = make_corpus(utterances=9000)  # IDs fill more than a pipe
    tasks = make_tasks(corpus, tmp_path, number_of_epochs=1)
    cells = cell_pool.train_cells(
        EmotionBrain, str(YAML), RUN_OPTS, states, corpus, tasks, 1_000_000, tmp_path
    )
    with pytest.raises(BrokenPipeError), contextlib.closing(cells):
        for _ in cells:
            raise BrokenPipeError
    assert not multiprocessing.active_children()
    assert not list(tmp_path.glob(".states*"))
