"""What a run of the grid will do, need and cost, before it does anything."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def cores():
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def missing_inputs(settings, inputs):
    """Name -> cure of what the size needs and does not find.

    Arguments
    ---------
    settings : dict
        Of a size: ``needs`` (folders given by --data) and ``weights`` (hub ids or folders).
    inputs : dict
        Name -> folder. ValueError for names that the size does not know.
    """
    unknown = sorted(set(inputs) - set(settings["needs"]))
    if unknown:
        known = ", ".join(settings["needs"])
        raise ValueError(f"--data {unknown[0]}=...: this size knows {known}")
    missing = {}
    for name, cure in settings["needs"].items():
        if name not in inputs:
            missing[name] = f"give --data {name}=DIR: {cure}"
        elif not Path(inputs[name]).is_dir():
            missing[name] = f"{inputs[name]} is not a folder: {cure}"
    for teacher in settings["teachers"].values():
        source = teacher.get("source")
        if source and not has_weights(source):
            missing[source] = (
                f"`hf download {source}` on a machine with network ({teacher['size']})"
            )
    return missing


def has_weights(source):
    """Whether a folder or hub id is on this machine."""
    if Path(source).is_dir():
        return True
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(source, "config.json"), str)


def missing_text(missing):
    """The missing inputs with their cures, or that nothing is missing."""
    if not missing:
        return "Inputs: all there."
    lines = [f"  {name}: {cure}" for name, cure in missing.items()]
    return "\n".join(["Missing inputs:", *lines])


def as_text(runner, settings, budget_hours=None, commands=False):
    """The plan: groups of cells with their expected cost, what is done, what a budget holds."""
    cells, groups = runner.grid.cells, {}
    for name, cell in cells.items():
        groups.setdefault(group_of(cell), []).append(name)
    lines = [f"{len(cells)} cells for {len(runner.grid.rows)} rows, {runner.jobs} at once:"]
    for group, names in groups.items():
        todo = [name for name in names if not runner.is_done(name)]
        hours = sum(cells[name].minutes for name in todo) / 60
        lines.append(f"  {group:<28}{len(names):>5} cells, {len(todo):>4} to do {hours:>8.1f} h")
    todo = [cell.minutes for name, cell in cells.items() if not runner.is_done(name)]
    hours = sum(todo) / 60
    lines.append(
        f"  to do: {hours:.1f} h of commands, about {hours / runner.jobs:.1f} h of waiting"
    )
    if "machine" in settings:
        lines.append(f"  {settings['machine']}")
    spent = runner.state["wall_seconds"] / 3600
    if budget_hours is not None:
        fits = (
            "fits" if spent + hours / runner.jobs <= budget_hours else "does not fit: last left out"
        )
        lines.append(f"  budget: {budget_hours:.1f} h, {spent:.1f} h spent before; the rest {fits}")
    if commands:
        lines += [command_text(runner, name) for name in cells]
    return "\n".join(lines)


def command_text(runner, name):
    """One cell: what it costs and the command to type."""
    cell = runner.grid.cells[name]
    parts = [f"{cell.minutes / 60:.2f} h"]
    parts += [f"{cell.facts[key]} {word}" for key, word in FACTS.items() if key in cell.facts]
    done = ", done" if runner.is_done(name) else ""
    return f"\n# {name}: {', '.join(parts)}{done}\n{cell.folder}$ {runner.shown(cell)}"


FACTS = {"memory_gb": "GB of GPU memory", "disk_gb": "GB of disk"}


def group_of(cell):
    """What kind of work a cell is."""
    words = {"teacher": "teachers", "pretrain": "pretraining", "distill": "distillation"}
    last = cell.folder.rsplit("/", 1)[-1]
    if last == "emotion":
        return f"heads on {cell.folder.split('/')[1]}"
    return words.get(last, "corpora, counts and figures")


def run_steps(size, work):
    """One step at batch 2 of each distinct configuration with random weights; its exit status."""
    if size != "full":
        return 0
    command = [sys.executable, str(HERE / "one_step.py"), "--work", str(work / "one_step")]
    return subprocess.run(command, check=False).returncode
