"""``metrics.json``: what a run of an emotion recipe reached, in one checked and portable form.

Tables and figures are made from these files and from nothing else, so a file that lacks a field or
holds a NaN is refused when written and when read.
"""

import json
import math
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd

from vesper_lobes.bootstrap import (
    DRAWS,
    bootstrap_ci,
    check_same_utterances,
    class_numbers,
    seed_confusions,
)
from vesper_lobes.metrics import METRICS, ece, per_class_of, scores, scores_of

FIELDS = {
    "corpus": str,
    "protocol": str,
    "seeds": list,
    "classes": list,
    "n": int,
    "pooled": dict,
    "mean_of_folds": dict,
    "ci": dict,
    "per_class": dict,
    "confusion": list,
    "folds": list,
    "baselines": dict,
    "chance": dict,
    "ssl_saw_test_audio": bool,
    "params": int,
    "trainable_params": int,
    "seconds": dict,
    "git": (str, type(None)),
}


def build_metrics(
    predictions,
    *,
    corpus,
    protocol,
    classes,
    ssl_saw_test_audio,
    params,
    trainable_params,
    seconds,
    groups="speaker",
    baselines=None,
    fold_details=None,
    git=None,
    draws=DRAWS,
):
    """Everything a run reports, from its test predictions.

    Arguments
    ---------
    predictions : dict of dict of pandas.DataFrame
        ``predictions[seed][fold]`` with columns ID, target, prediction (class names or numbers),
        the group's, and ``p_<class>`` for each class (optional: without them there is no ECE).
    corpus, protocol : str
    classes : list of str
        In the corpus's fixed order.
    ssl_saw_test_audio : bool
        Whether the encoder's pretraining, its teacher's included, heard the test speakers.
    params, trainable_params : int
        Of the encoder, and of what the recipe trained.
    seconds : dict of float
        By stage.
    groups : str
        What intervals resample: "speaker", or "dialogue" (MELD).
    baselines : dict, optional
        Name -> predictions like the first argument, made on the same folds, or an already scored
        ``{"UA": float, "ci": [low, high]}``.
    fold_details : dict, optional
        ``(seed, fold)`` -> further plain entries for that fold, such as the epoch picked.
    git : str, optional
        See :func:`git_commit`.
    draws : int
        Of the bootstrap.

    Returns
    -------
    dict
        Valid by :func:`validate_metrics`. ``pooled``, ``per_class`` and ``ci``: each seed's folds
        pooled and scored, then the mean over seeds. ``mean_of_folds``: each fold scored, then the
        mean over folds and seeds. ``confusion``: counts summed over seeds, row = target. ``n``:
        test utterances of one seed.

    Raises
    ------
    ValueError
        Seeds or baselines were not tested on the same utterances, an utterance was tested twice,
        a column is missing, or a value is not plain and finite.
    """
    tables = pool_folds(predictions)
    check_same_utterances(tables, classes, groups)
    confusions = seed_confusions(tables, classes, groups)[1].sum(1)  # (seeds, C, C)
    cells = [
        {"seed": int(seed), "fold": int(fold), **_score_table(table, classes)}
        for seed, folds in predictions.items()
        for fold, table in folds.items()
    ]
    for cell in cells:
        cell.update((fold_details or {}).get((cell["seed"], cell["fold"]), {}))
    metrics = {
        "corpus": corpus,
        "protocol": protocol,
        "seeds": [int(seed) for seed in predictions],
        "classes": list(classes),
        "n": len(tables[0]),
        "pooled": {name: float(values.mean()) for name, values in scores_of(confusions).items()},
        "mean_of_folds": _mean_of_folds(cells),
        "ci": bootstrap_ci(tables, classes, groups, draws),
        "per_class": _per_class(confusions, classes),
        "confusion": confusions.sum(0).astype(int).tolist(),
        "folds": cells,
        "baselines": {
            name: _baseline(value, tables, classes, groups, draws)
            for name, value in (baselines or {}).items()
        },
        "chance": {"UA": 1 / int((confusions[0].sum(1) > 0).sum())},
        "ssl_saw_test_audio": ssl_saw_test_audio,
        "params": int(params),
        "trainable_params": int(trainable_params),
        "seconds": {name: float(value) for name, value in seconds.items()},
        "git": git,
    }
    return validate_metrics(metrics)


def pool_folds(predictions):
    """One table a seed from ``predictions[seed][fold]``, folds one below the other."""
    if not predictions or not all(predictions.values()):
        raise ValueError("no predictions: at least one seed with one fold is needed")
    return [pd.concat(folds.values(), ignore_index=True) for folds in predictions.values()]


def read_predictions(run_folder):
    """``predictions[seed][fold]`` from a run's ``seed<s>/fold<k>/predictions.csv`` files."""
    found = {}
    for path in Path(run_folder).glob("seed*/fold*/predictions.csv"):
        match = re.fullmatch(r"seed(\d+)/fold(\d+)", path.parent.relative_to(run_folder).as_posix())
        if match:
            text = {"ID": str, "speaker": str, "dialogue": str, "target": str, "prediction": str}
            table = pd.read_csv(path, dtype=text, keep_default_na=False)
            found.setdefault(int(match[1]), {})[int(match[2])] = table
    if not found:
        raise ValueError(f"{run_folder}: no seed<s>/fold<k>/predictions.csv in it")
    return {seed: dict(sorted(folds.items())) for seed, folds in sorted(found.items())}


def validate_metrics(metrics):
    """The same dict, or a ValueError that names the field that is wrong."""
    missing, extra = FIELDS.keys() - metrics.keys(), metrics.keys() - FIELDS.keys()
    if missing or extra:
        raise ValueError(f"metrics: missing {sorted(missing)}, unknown {sorted(extra)}")
    for name, kind in FIELDS.items():
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if type(metrics[name]) not in kinds:
            raise ValueError(f"metrics: {name} is a {type(metrics[name]).__name__}")
    _check_plain("metrics", metrics)
    for name in ("pooled", "mean_of_folds", "ci"):
        if set(metrics[name]) != set(METRICS):
            raise ValueError(f"metrics: {name} must hold {METRICS}")
    size = len(metrics["classes"])
    shape = [len(row) for row in metrics["confusion"]]
    if shape != [size] * size or sum(map(sum, metrics["confusion"])) != metrics["n"] * len(
        metrics["seeds"]
    ):
        raise ValueError("metrics: confusion does not fit classes, n and seeds")
    for name, entry in metrics["baselines"].items():
        if set(entry) != {"UA", "ci"}:
            raise ValueError(f"metrics: baselines.{name} must hold UA and ci")
    intervals = [*metrics["ci"].values(), *(e["ci"] for e in metrics["baselines"].values())]
    points = [*metrics["pooled"].values(), *metrics["mean_of_folds"].values()]
    if any(len(i) != 2 or not 0 <= i[0] <= i[1] <= 1 for i in intervals):
        raise ValueError("metrics: an interval is not [low, high] within 0 and 1")
    if any(not 0 <= value <= 1 for value in points):
        raise ValueError("metrics: a score lies outside 0 to 1")
    return metrics


def write_metrics(metrics, path):
    """Validate, then write in one step: a reader sees the old file or the new one, whole."""
    path = Path(path)
    text = json.dumps(validate_metrics(metrics), indent=1, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def read_metrics(path):
    """A ``metrics.json``, validated; the error names the file."""
    try:
        return validate_metrics(json.loads(Path(path).read_text(encoding="utf-8")))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {error}") from error


def git_commit(folder="."):
    """Commit of the checkout, with ``-dirty`` where tracked files differ; None outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _score_table(table, classes):
    targets = class_numbers(table["target"], classes)
    found = {"n": len(table)}
    found.update(scores(targets, class_numbers(table["prediction"], classes), len(classes)))
    columns = [f"p_{name}" for name in classes]
    if set(columns) <= set(table.columns):
        probabilities = table[columns].to_numpy(dtype=np.float64)
        if not np.allclose(probabilities.sum(1), 1, atol=1e-3):
            raise ValueError("columns p_<class> do not hold probabilities: rows must sum to 1")
        found["ECE"] = ece(probabilities, targets)
    return found


def _mean_of_folds(cells):
    by_seed = {}
    for cell in cells:
        by_seed.setdefault(cell["seed"], []).append(cell)
    return {
        name: float(np.mean([np.mean([c[name] for c in folds]) for folds in by_seed.values()]))
        for name in METRICS
    }


def _per_class(confusions, classes):
    figures = [values.mean(0) for values in per_class_of(confusions)]  # each (C,)
    names = ("recall", "precision", "F1", "support")
    return {
        label: dict(zip(names, [*map(float, row[:3]), int(row[3])], strict=True))
        for label, row in zip(classes, zip(*figures, strict=True), strict=True)
    }


def _baseline(value, tables, classes, groups, draws):
    if "UA" in value:
        return {"UA": float(value["UA"]), "ci": [float(end) for end in value["ci"]]}
    own = pool_folds(value)
    check_same_utterances([tables[0], *own], classes, groups)
    confusions = seed_confusions(own, classes, groups)[1].sum(1)
    interval = bootstrap_ci(own, classes, groups, draws)["UA"]
    return {"UA": float(scores_of(confusions)["UA"].mean()), "ci": interval}


def _check_plain(name, value):
    """Only what JSON holds: a NaN or a numpy number would write a file others cannot read."""
    if type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise ValueError(f"{name}: key {key!r} is no text")
            _check_plain(f"{name}.{key}", item)
    elif type(value) is list:
        for i, item in enumerate(value):
            _check_plain(f"{name}[{i}]", item)
    elif type(value) is float and not math.isfinite(value):
        raise ValueError(f"{name} is {value}")
    elif type(value) not in (str, int, float, bool, type(None)):
        raise ValueError(f"{name} is a {type(value).__name__}, not plain Python")
