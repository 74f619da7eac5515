"""Copies what a run found, never what it was made from, to where tables are generated from.

    python recipes/publish.py recipes/EmoDB/emotion/results/vesper_mini/B [--config NAME]

``metrics.json``, ``run.json`` and figures go to ``results/<corpus>/<config>/`` of the repository;
audio, features, predictions and weights stay where they are. Then: python recipes/tables.py
"""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

from vesper_lobes.run_metrics import read_metrics

ROOT = Path(__file__).resolve().parent.parent
FIGURES = (".png", ".svg", ".pdf")
RECORDS = ("metrics.json", "run.json")
ABSOLUTE = re.compile(r'"(/|~|[A-Za-z]:\\)[^"]*"')


def publish(run, config=None, results=ROOT / "results"):
    """Copy a run's metrics and figures.

    Arguments
    ---------
    run : str or pathlib.Path
        A recipe's output folder.
    config : str, optional
        Default: the name of the run's YAML; protocols other than B add ``_<protocol>``.
    results : pathlib.Path

    Returns
    -------
    list of pathlib.Path
        What was written.

    Raises
    ------
    ValueError
        metrics.json is missing or not valid, the config's name is not known, or a record holds a
        path of this machine.
    """
    run = Path(run)
    if not (run / "metrics.json").is_file():
        raise ValueError(f"{run}: no metrics.json; the run has not ended")
    metrics = read_metrics(run / "metrics.json")
    if config is None:
        config = config_name(run)
        if metrics["protocol"] != "B":
            config += f"_{metrics['protocol']}"
    target = Path(results) / metrics["corpus"].lower().replace(" ", "_") / config
    records = [run / name for name in RECORDS if (run / name).is_file()]
    for path in records:
        found = ABSOLUTE.search(path.read_text(encoding="utf-8"))
        if found:
            raise ValueError(f"{path}: holds a path of this machine: {found[0]}")
    figures = sorted(path for path in run.iterdir() if path.suffix in FIGURES)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for path in [*records, *figures]:
        temporary = target / f".{path.name}.tmp"
        shutil.copyfile(path, temporary)
        temporary.replace(target / path.name)
        written.append(target / path.name)
    return written


def config_name(run):
    """The name of the YAML a run was made from, as SpeechBrain notes it in hyperparams.yaml."""
    path = Path(run) / "hyperparams.yaml"
    head = path.read_text(encoding="utf-8").splitlines()[:3] if path.is_file() else []
    for line in head:
        match = re.fullmatch(r"# .*?([^/\\]+)\.ya?ml", line)
        if match:
            return match[1]
    raise ValueError(f"{run}: hyperparams.yaml does not name its YAML; give --config NAME")


def main(arguments):
    """Parses, copies, prints what was written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("--config")
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    try:
        written = publish(**vars(parser.parse_args(arguments)))
    except (ValueError, json.JSONDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(*written, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
