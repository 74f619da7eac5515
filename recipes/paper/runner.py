"""Runs the cells of a grid, several at once, and goes on where it stopped.

``<work>/state.json`` says of each finished cell which command it ran, at which commit, in how many
seconds. A cell is run again when its command, or that of a cell it needs, has changed, or when what
it wrote is gone. An interruption costs what the running cells have not yet kept themselves: the
recipes' own checkpoints and finished folds are taken up by the same command. A cell that fails
stops those that need it and no others.
"""

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

from vesper_lobes.emotion_cells import write_atomic
from vesper_lobes.run_metrics import git_commit

ROOT = Path(__file__).resolve().parents[2]


class Runner:
    """The cells of a grid in a work folder.

    Arguments
    ---------
    grid : cells.Grid
    work : str or pathlib.Path
    inputs : dict
        Name -> folder, for ``{name}`` in commands.
    jobs : int
        Commands that run at once.
    threads : int, optional
        Of each; default: cores / jobs.
    after : callable, optional
        Called after each finished cell (rows.json is written there).
    """

    def __init__(self, grid, work, inputs, jobs=1, threads=None, after=None):
        self.grid, self.work = grid, Path(work).resolve()
        self.inputs = {name: str(Path(p).resolve()) for name, p in inputs.items()}
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self.jobs, self.threads = jobs, threads or max(1, cores // jobs)
        self.after = after or (lambda runner: None)
        self.state_file = self.work / "state.json"
        self.state = {"cells": {}, "wall_seconds": 0.0}
        if self.state_file.is_file():
            self.state = json.loads(self.state_file.read_text(encoding="utf-8"))
        self.keys = {}
        for name in grid.cells:
            self.key(name)

    def key(self, name):
        """Hash of a cell's command and of all before it; folders of this machine are not in it."""
        if name not in self.keys:
            cell = self.grid.cells[name]
            before = [self.key(need) for need in cell.needs]
            content = json.dumps([cell.folder, cell.command, before])
            self.keys[name] = hashlib.sha256(content.encode()).hexdigest()[:24]
        return self.keys[name]

    def path(self, cell):
        """Where the file that shows that a cell ran should lie."""
        return ROOT / cell.writes if cell.writes.startswith("./") else self.work / cell.writes

    def is_done(self, name):
        """Whether a cell has run with this command, and what it wrote is there."""
        entry = self.state["cells"].get(name, {})
        current = entry.get("done") and entry.get("key") == self.key(name)
        return bool(current) and self.path(self.grid.cells[name]).is_file()

    def seconds(self, name):
        """Seconds of a finished cell, or those expected."""
        if self.is_done(name):
            return self.state["cells"][name]["seconds"]
        return 60 * self.grid.cells[name].minutes

    def filled(self, cell):
        """A cell's command with its folders in place."""
        words = []
        for word in cell.command:
            word = word.replace("{work}", str(self.work))
            for name, path in self.inputs.items():
                word = word.replace(f"{{{name}}}", path)
            words += (
                (sorted(glob.glob(word)) or [word]) if "*" in word else [word]
            )  # as a shell does
        return words

    def shown(self, cell):
        """The command as one would type it, in the recipe's folder."""
        return shlex.join(self.filled(cell)).replace(f"{ROOT}/", "$ROOT/")

    def run(self, budget_seconds=None):
        """Run what is not done; returns the names that failed or were left out for the budget.

        Arguments
        ---------
        budget_seconds : float, optional
            Of wall time, earlier sessions included; no cell is begun that is expected to end later.

        Returns
        -------
        dict
            Name -> reason.
        """
        self.work.mkdir(parents=True, exist_ok=True)
        with alone(self.work):
            return self._run(budget_seconds)

    def _run(self, budget_seconds):
        began, before = time.monotonic(), self.state["wall_seconds"]
        waiting = [name for name in self.grid.cells if not self.is_done(name)]
        left, running = {}, {}
        total = sum(60 * cell.minutes for cell in self.grid.cells.values())
        ready = total - sum(60 * self.grid.cells[name].minutes for name in waiting)
        bar = tqdm(total=round(total / 60, 1), initial=round(ready / 60, 1), unit="min")
        try:
            while waiting or running:
                spent = before + time.monotonic() - began
                self._begin(waiting, running, left, budget_seconds, spent)
                self._end(running, left, bar)
                self.state["wall_seconds"] = before + time.monotonic() - began
                time.sleep(0.2)
        finally:
            for process, *_ in running.values():
                stop(process)
            self.state["wall_seconds"] = before + time.monotonic() - began
            self._save()
            bar.close()
        return left

    def _begin(self, waiting, running, left, budget, spent):
        """Start cells whose needs are met while there is room."""
        for name in list(waiting):
            if len(running) >= self.jobs:
                return
            cell = self.grid.cells[name]
            lost = [need for need in cell.needs if need in left]
            late = budget is not None and spent + 60 * cell.minutes > budget
            if lost or late:
                left[name] = f"needs {lost[0]}" if lost else "beyond the budget of time"
                waiting.remove(name)
            elif all(self.is_done(need) for need in cell.needs):
                waiting.remove(name)
                running[name] = self._start(name)

    def _start(self, name):
        cell = self.grid.cells[name]
        log = self.work / "logs" / f"{name.replace('/', '+')}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        words = self.filled(cell)
        if words[0] == "python":
            words[0] = sys.executable
        threads = str(self.threads)
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(
                ":"
            ),
        }
        with open(log, "a", encoding="utf-8") as file:
            process = subprocess.Popen(
                words,
                cwd=ROOT / cell.folder,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return process, time.monotonic(), log

    def _end(self, running, left, bar):
        """Take up what has ended."""
        for name, (process, began, log) in list(running.items()):
            if process.poll() is None:
                continue
            del running[name]
            cell, seconds = self.grid.cells[name], time.monotonic() - began
            if process.returncode or not self.path(cell).is_file():
                left[name] = f"failed with exit status {process.returncode}; see {log}"
                bar.write(f"{name}: {left[name]}\n{tail(log)}")
                continue
            old = self.state["cells"].get(name, {})
            earlier = old.get("seconds", 0) if old.get("key") == self.key(name) else 0
            self.state["cells"][name] = {
                "key": self.key(name),
                "done": True,
                "seconds": round(seconds + earlier, 1),
                "command": shlex.join(cell.command),
                "folder": cell.folder,
                "git": git_commit(ROOT),
            }
            self._save()
            self.after(self)
            bar.set_description(name)
            bar.update(round(cell.minutes, 2))

    def _save(self):
        write_atomic(self.state_file, json.dumps(self.state, indent=1) + "\n")

    def write_rows(self, size):
        """rows.json: which rows there are, from which runs, and what was run."""
        done = {name: self.is_done(name) for name in self.grid.cells}
        rows = [
            {**row, "done": all(done[run.removeprefix("cells/")] for run in row["runs"])}
            for row in self.grid.rows
        ]
        finished = {n: self.state["cells"][n] for n, is_done in done.items() if is_done}
        content = {
            "size": size,
            "wall_seconds": round(self.state["wall_seconds"], 1),
            "jobs": self.jobs,
            "threads": self.threads,
            "seconds": {name: entry["seconds"] for name, entry in finished.items()},
            "commands": {
                n: f"{c.folder}$ {shlex.join(c.command)}" for n, c in self.grid.cells.items()
            },
            "git": sorted({entry["git"] for entry in finished.values() if entry["git"]}),
            "rows": rows,
        }
        write_atomic(self.work / "rows.json", json.dumps(content, indent=1) + "\n")


@contextlib.contextmanager
def alone(work):
    """A lock on the work folder; RuntimeError where another run holds it."""
    with open(work / "lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(f"another run is at work in {work}") from error
        yield


def stop(process):
    """End a command and its children: politely first, so that it keeps what it has."""
    for kind, patience in ((signal.SIGINT, 20), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, kind)
            process.wait(patience)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def tail(path, lines=12):
    """The last lines of a log, without progress bars."""
    text = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"    {line[-200:]}" for line in text[-lines:])
