"""The whole method in one command, on speech that this machine synthesises itself.

    make quickstart
    python recipes/quickstart/quickstart.py [--results_folder DIR] [--fresh]

Runs the stages of ``stages.yaml`` one after the other, each with the command a user would type, and
says what each took. Nothing is fetched: after the install it works offline. Run again, it goes on
where it stopped: a finished stage is skipped while its command, its code and all stages before it
are unchanged, an interrupted one is taken up by its own checkpoints, and one whose inputs changed
is done anew. What is worth looking at lands in results/quickstart, what was needed on the way in
its folder ``work``.
"""

import argparse
import hashlib
import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STAGES_FILE = HERE / "stages.yaml"
# Waiting threads sleep instead of spinning, which makes steps six times as long on a busy machine.
DEFAULTS = {"OMP_WAIT_POLICY": "PASSIVE"}
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


class StageError(RuntimeError):
    """A stage whose command failed; the text names both."""


def read_stages(path=STAGES_FILE):
    """The list of stages, as dicts: name, title, budget, folder, commands, code, writes."""
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)["stages"]


def code_hash(paths):
    """SHA-256 over names and bytes of the Python and YAML files at or below `paths`."""
    digest = hashlib.sha256()
    for path in paths:
        path = ROOT / path
        found = path.rglob("*") if path.is_dir() else [path]
        for file in sorted(f for f in found if f.suffix in (".py", ".yaml")):
            if "results" not in file.relative_to(ROOT).parts:
                digest.update(f"{file.relative_to(ROOT).as_posix()}\0".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()


def stage_keys(stages):
    """Stage name -> hash of its commands, its code and everything before it."""
    keys, before = {}, ""
    for stage in stages:
        content = [before, stage["folder"], stage["commands"], code_hash(stage["code"])]
        before = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        keys[stage["name"]] = before
    return keys


def print_now(line):
    """Print in order with what the commands print."""
    print(line, flush=True)


def cores():
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def write_json(value, path):
    """Write by a temporary name in the same folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


class Quickstart:
    """One quickstart in one results folder.

    Arguments
    ---------
    results : Path
        What the user looks at; ``work`` in it holds corpus, checkpoints, caches.
    stages : list of dict
    say : callable
        Prints a line.
    """

    def __init__(self, results, stages, say=print_now):
        self.results, self.stages, self.say = Path(results).resolve(), stages, say
        self.work = self.results / "work"
        self.state_file = self.work / "stages.json"

    def run(self):
        """All stages; returns their records, with seconds."""
        self.work.mkdir(parents=True, exist_ok=True)
        state = json.loads(self.state_file.read_text()) if self.state_file.is_file() else {}
        keys, records = stage_keys(self.stages), []
        for number, stage in enumerate(self.stages, start=1):
            name = stage["name"]
            self.say(f"\n[{number}/{len(self.stages)}] {stage['title']}")
            entry = state.get(name, {})
            if entry.get("key") != keys[name]:
                self.forget(stage)
                entry = {"key": keys[name], "done": False, "seconds": 0.0}
            reused = entry["done"] and not stage.get("always", False)
            if reused:
                self.say(f"      done before, in {entry['seconds']:.0f} s")
            else:
                if stage.get("always", False):
                    entry["seconds"] = 0.0
                state[name] = entry
                self.run_stage(stage, state)
            records.append(self.record(stage, state[name], reused))
            self.write_timings(records)
        return records

    def run_stage(self, stage, state):
        """Run a stage's commands; its seconds are kept even if it is interrupted."""
        entry, began = state[stage["name"]], time.perf_counter()
        before = entry["seconds"]  # of an interrupted run
        write_json(state, self.state_file)
        try:
            for command in stage["commands"]:
                self.run_command(command, ROOT / stage["folder"])
            entry["done"] = True
        finally:
            entry["seconds"] = round(before + time.perf_counter() - began, 2)
            write_json(state, self.state_file)
        self.say(f"      {entry['seconds']:.0f} s")

    def run_command(self, command, folder):
        """Run one command as a user would, its output on the user's terminal."""
        self.say(f"      {folder.relative_to(ROOT).as_posix()}$ {self.shown(command)}")
        arguments = [self.filled(part) for part in shlex.split(command)]
        if arguments[0] == "python":
            arguments[0] = sys.executable
        environment = {**DEFAULTS, **os.environ, **OFFLINE}
        done = subprocess.run(arguments, cwd=folder, env=environment, check=False)
        if done.returncode:
            raise StageError(f"exit status {done.returncode} from: {self.shown(command)}")

    def filled(self, text):
        """A command with its folders in place."""
        return text.replace("{work}", str(self.work)).replace("{results}", str(self.results))

    def shown(self, command):
        """A command as shown: folders relative to the checkout where they lie in it."""
        return self.filled(command).replace(f"{ROOT}/", "")

    def forget(self, stage):
        """Remove what a stage wrote with other inputs."""
        for name in stage["writes"]:
            path = Path(self.filled(name)).resolve()
            if not path.is_relative_to(self.results) or path == self.results:
                raise ValueError(f"stage {stage['name']} may not write to {path}")
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)

    def record(self, stage, entry, reused):
        """One entry of timings.json."""
        return {
            "name": stage["name"],
            "title": stage["title"],
            "what": " ".join(stage["what"].split()),
            "seconds": entry["seconds"],
            "budget_seconds": stage["budget"],
            "reused": reused,
            "folder": stage["folder"],
            "commands": [self.shown(command) for command in stage["commands"]],
        }

    def write_timings(self, records):
        """timings.json, after every stage: the report of the last stage reads it."""
        machine = {
            "cores": cores(),
            "machine": platform.machine(),
            "python": platform.python_version(),
        }
        total = round(sum(record["seconds"] for record in records), 2)
        timings = {"stages": records, "total_seconds": total, "machine": machine}
        write_json(timings, self.results / "timings.json")


def closing(quickstart, records):
    """The last lines: seconds per stage, and where to look."""
    lines = [f"  {record['seconds']:6.0f} s  {record['title']}" for record in records]
    total = sum(record["seconds"] for record in records)
    report = quickstart.results / "report.html"
    return "\n".join(["", *lines, f"  {total:6.0f} s  in all", "", f"Look at {report}"])


def main(argv=None):
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results_folder", type=Path, default=ROOT / "results" / "quickstart")
    parser.add_argument("--stages", type=Path, default=STAGES_FILE, help="another stages.yaml")
    parser.add_argument("--fresh", action="store_true", help="forget everything done before")
    arguments = parser.parse_args(argv)
    if arguments.fresh and (arguments.results_folder / "work" / "stages.json").is_file():
        shutil.rmtree(arguments.results_folder)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # keeps a stage's seconds then too
    quickstart = Quickstart(arguments.results_folder, read_stages(arguments.stages))
    try:
        records = quickstart.run()
    except StageError as error:
        print(f"\nquickstart: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nquickstart: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    print(closing(quickstart, records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
