"""Rows of the paper's tables: their names, the paper's figures, and what our runs came to.

A row is an encoder (how it was compressed, with which masks and losses it was pretrained) with a
head on a mix of its states. Its runs, several where there are several pretraining seeds, are read
from the work folder that `reproduce.py` fills, and scored together: every head seed of every
pretraining seed counts once.
"""

import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

import yaml

sys.path.append(str(Path(__file__).resolve().parents[1]))
from compare import GROUPS

from vesper_lobes.run_metrics import build_metrics, pool_folds, read_metrics, read_predictions

HERE = Path(__file__).resolve().parent
MODELS = ("base", "v4", "large", "v12")
CHOICES = {
    "model": MODELS,
    "compression": ("extraction", "averaging", "random", "distillation"),
    "masking": ("guided", "random", "random_matched", "published_code"),
    "losses": ("lhx", "h", "lh", "hx"),
    "head": ("superb", "shiftformer", "speechformer"),
    "mix": ("weighted_sum", "last"),
}
MODEL_NAMES = {
    "base": "WavLM Base",
    "v4": "Vesper-4",
    "large": "WavLM Large",
    "v12": "Vesper-12",
}
HEAD_NAMES = {
    "superb": "SUPERB head",
    "shiftformer": "ShiftFormer",
    "speechformer": "SpeechFormer-S",
}
LOSS_NAMES = {"h": "h alone", "lh": "l + h", "hx": "h + x", "lhx": "all three"}
MASK_NAMES = {
    "guided": "guided",
    "random": "random, as many positions",
    "random_matched": "random, as many frames",
    "published_code": "released code",
}
VALUE_NAMES = {
    "compression": {name: name for name in CHOICES["compression"]},
    "masking": MASK_NAMES,
    "losses": LOSS_NAMES,
    "head": HEAD_NAMES,
    "mix": {"weighted_sum": "weighted sum", "last": "last layer"},
}
OF_STUDENTS = ("compression", "masking", "losses")
SEED_STEP = 100_000  # a later run's seed 1986 is listed as 101986, 201986, ...
KEPT_OF_FOLDS = ("epoch", "dev", "selected_on_test")


class Key(NamedTuple):
    """What names a row; compression, masking and losses are None for base and large."""

    model: str
    compression: str | None
    masking: str | None
    losses: str | None
    head: str
    mix: str

    def slug(self):
        """A name for files: ``v4-extraction-guided-lhx-superb-weighted_sum``."""
        return "-".join(part for part in self if part)


class Row(NamedTuple):
    """What a row came to on one corpus under one protocol."""

    key: Key
    corpus: str
    protocol: str
    metrics: dict  # of all runs together, as in metrics.json
    runs: list  # pooled tables of each run, one a head seed
    encoders: list


class Grid(NamedTuple):
    """Everything a work folder holds by now."""

    size: str
    rows: dict  # (Key, corpus, protocol) -> Row, of those that are done
    planned: dict  # (Key, corpus, protocol) -> entry of rows.json
    corpora: list
    troubles: list  # sentences about rows that are called done and cannot be read
    record: dict  # rows.json
    work: Path


class Targets(NamedTuple):
    """targets.yaml: the paper's figures, and which rows each table shows."""

    corpora: list
    metrics: list
    figures: dict  # Key -> corpus -> metric -> fraction
    tables: dict  # table -> {"title", "rows": [(Key, note)]}
    complexity: dict
    head_params: dict


def key_of(entry):
    """The name of a row from a dict that leaves out what is usual.

    Example
    -------
    >>> key_of({"model": "v4", "losses": "h"}).slug()
    'v4-extraction-guided-h-superb-weighted_sum'
    >>> key_of({"model": "base", "mix": "last"}).slug()
    'base-superb-last'
    """
    unknown = set(entry) - set(CHOICES)
    if unknown or "model" not in entry:
        raise ValueError(f"{entry}: a row is named by model and any of {sorted(CHOICES)}")
    student = entry["model"] in ("v4", "v12")
    found = {}
    for name, choices in CHOICES.items():
        usual = None if name in OF_STUDENTS and not student else choices[0]
        found[name] = usual if entry.get(name) is None else entry[name]
        if found[name] is not None and (found[name] not in choices or usual is None):
            raise ValueError(f"{entry}: {name} cannot be {found[name]!r} here")
    return Key(**found)


def read_targets(path=HERE / "targets.yaml"):
    """The paper's figures; a row that two tables name has one set of them."""
    text = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    figures, tables = {}, {}
    for name, table in text["tables"].items():
        shown = []
        for entry in table["rows"]:
            key = key_of(entry["row"])
            shown.append((key, entry.get("note", "")))
            given = {corpus: entry[corpus] for corpus in text["corpora"] if corpus in entry}
            if given and key in figures:
                raise ValueError(f"{path}: table {name} gives {entry['row']} figures again")
            if given:
                figures[key] = {
                    corpus: dict(zip(text["metrics"], triple, strict=True))
                    for corpus, triple in given.items()
                }
        tables[name] = {"title": table["title"], "rows": shown}
    return Targets(
        *(text["corpora"], text["metrics"], figures, tables),
        *(text["complexity"], text["head_params"]),
    )


def read_grid(work):
    """What a work folder holds: every row that is done, scored.

    Arguments
    ---------
    work : str or pathlib.Path
        With ``rows.json``, and the runs' folders it names.

    Returns
    -------
    Grid
        Rows that are not done are in ``planned`` only; done ones that cannot be read are there,
        too, with a sentence in ``troubles``.

    Raises
    ------
    ValueError
        There is no rows.json.
    """
    work = Path(work)
    path = work / "rows.json"
    if not path.is_file():
        raise ValueError(
            f"{path} is missing: python recipes/paper/reproduce.py --tables all makes it"
        )
    record = json.loads(path.read_text(encoding="utf-8"))
    rows, planned, troubles = {}, {}, []
    for entry in record["rows"]:
        key = key_of({name: entry.get(name) for name in CHOICES})
        place = (key, entry["corpus"], entry["protocol"])
        planned[place] = entry
        if not entry["done"]:
            continue
        try:
            rows[place] = read_row(work, key, entry)
        except (ValueError, OSError) as error:
            inside = str(error).replace(f"{work}{os.sep}", "")
            troubles.append(f"{key.slug()} on {entry['corpus']}, {entry['protocol']}: {inside}")
    corpora = list(dict.fromkeys(entry["corpus"] for entry in record["rows"]))
    return Grid(record["size"], rows, planned, corpora, troubles, record, work)


def read_row(work, key, entry):
    """One row from its runs' predictions, which are scored anew, together."""
    folders = [Path(work) / run for run in entry["runs"]]
    if not folders:
        raise ValueError("it names no run")
    reports = [read_metrics(folder / "metrics.json") for folder in folders]
    first = reports[0]
    for name in ("corpus", "protocol", "classes"):
        if any(report[name] != first[name] for report in reports):
            raise ValueError(f"its runs differ in {name}")
    predictions, details = {}, {}
    for place, (folder, report) in enumerate(zip(folders, reports, strict=True)):
        found = read_predictions(folder)
        for cell in report["folds"]:
            seed, fold = cell["seed"], cell["fold"]
            if fold not in found.get(seed, {}):
                raise ValueError(f"{folder}: the predictions of seed {seed}, fold {fold} are gone")
            seed = seed + SEED_STEP * place
            predictions.setdefault(seed, {})[fold] = found[cell["seed"]][fold]
            details[seed, fold] = {name: cell[name] for name in KEPT_OF_FOLDS if name in cell}
    pooled = pool_folds(predictions)
    metrics = build_metrics(
        predictions,
        corpus=first["corpus"],
        protocol=first["protocol"],
        classes=first["classes"],
        ssl_saw_test_audio=any(report["ssl_saw_test_audio"] for report in reports),
        params=first["params"],
        trainable_params=first["trainable_params"],
        seconds={"total": sum(report["seconds"].get("total", 0.0) for report in reports)},
        groups=GROUPS.get(first["corpus"], "speaker"),
        baselines=first["baselines"],
        fold_details=details,
        git=first["git"] if len({report["git"] for report in reports}) == 1 else None,
    )
    by_run = [
        [t for seed, t in zip(predictions, pooled, strict=True) if seed // SEED_STEP == place]
        for place in range(len(folders))
    ]
    return Row(key, entry["corpus"], entry["protocol"], metrics, by_run, entry["encoders"])
