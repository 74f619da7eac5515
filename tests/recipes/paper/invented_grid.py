"""A grid's work folder with invented predictions of known skill, by the project's writers."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from vesper_lobes.run_metrics import build_metrics, write_metrics

CORPORA = {  # speakers, utterances of each, classes
    "EmoDB": (10, 32, ["angry", "happy", "neutral", "sad"]),
    "RAVDESS": (12, 40, ["neutral", "calm", "happy", "sad", "angry"]),
}
SEEDS = [1986, 1987, 1988]
FOLDS = 2


def predictions(corpus, skill, seed, fold):
    """Test predictions of a fold; speakers differ in how well everybody reads them."""
    speakers, each, classes = CORPORA[corpus]
    random = np.random.default_rng([seed, fold, speakers])  # corpora must not share their noise
    rows = []
    for speaker in range(fold, speakers, FOLDS):
        ease = 0.2 * (speaker / speakers - 0.5)
        for clip in range(each):
            target = classes[clip % len(classes)]
            right = random.random() < skill + ease
            others = [name for name in classes if name != target]
            answer = target if right else others[random.integers(len(others))]
            rows.append((f"{speaker}-{clip}", f"{speaker:02d}", "", target, answer))
    columns = ["ID", "speaker", "dialogue", "target", "prediction"]
    return pd.DataFrame(rows, columns=columns)


def write_run(folder, corpus, protocol, skill, seeds, heard=False, noise=0):
    """An emotion run's output folder."""
    cells = {}
    for seed in seeds:
        for fold in range(FOLDS):
            table = predictions(corpus, skill, seed + noise, fold)
            path = Path(folder) / f"seed{seed}" / f"fold{fold + 1}" / "predictions.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            table.to_csv(path, index=False)
            cells.setdefault(seed, {})[fold + 1] = table
    details = {
        (seed, fold): {"epoch": 7, "selected_on_test": protocol == "A"}
        for seed in seeds
        for fold in cells[seed]
    }
    metrics = build_metrics(
        cells,
        corpus=corpus,
        protocol=protocol,
        classes=CORPORA[corpus][2],
        ssl_saw_test_audio=heard,
        params=1_390_000,
        trainable_params=50_436,
        seconds={"total": 12.0},
        fold_details=details,
        git="abc",
        draws=20,
    )
    write_metrics(metrics, Path(folder) / "metrics.json")


def entry_of(row, corpus, protocol, encoders, seeds=SEEDS, done=True, tables=("III",)):
    """A row as rows.json holds it."""
    student = row["model"] in ("v4", "v12")
    usual = {"compression": "extraction", "masking": "guided", "losses": "lhx"}
    full = {name: row.get(name, usual[name]) if student else None for name in usual}
    full |= {"model": row["model"], "head": row.get("head", "superb")}
    full |= {"mix": row.get("mix", "weighted_sum"), "corpus": corpus, "protocol": protocol}
    place = f"{full['head']}-{full['mix']}/{protocol}"
    runs = [f"cells/emotion/{corpus}/{name}/{place}" for name in encoders]
    return {**full, "encoders": encoders, "runs": runs, "tables": list(tables), "done": done}


def write_history(folder, phoneme):
    """What pretraining leaves: an epoch with its masked shares, and a record."""
    masks = {"high": 0.2, "low": 0.3, "noise": 0.5, "phoneme": phoneme, "word": 0.5}
    for level, share in (("phoneme", phoneme), ("word", 0.5)):
        for zone, times in (("high", 1.4), ("low", 1.2), ("noise", 0.6)):
            masks[f"{level}_of_{zone}"] = share * times
            masks[f"{level}_in_{zone}"] = masks[zone] * times
    rows = [{"epoch": 1, "optimizer_steps": 800, "audio_hours": 1.5, "masks": masks}]
    record = {
        "speakers": {"RAVDESS": ["01", "02"], "synthetic": ["spk01"]},
        "utterances": 1868,
        "hours": 1.18,
        "compression": "extraction: 2 of 12 layers <- 1, 7",
        "masking": "guided",
    }
    export = Path(folder) / "export"
    export.mkdir(parents=True, exist_ok=True)
    (Path(folder) / "history.json").write_text(json.dumps(rows))
    (export / "pretraining.json").write_text(json.dumps(record))


def write_grid(work, rows, protocols=("B",), corpora=tuple(CORPORA), size="mini"):
    """A work folder.

    Arguments
    ---------
    work : pathlib.Path
    rows : list of (dict, float or None, int)
        A row's name, its skill (None: not done), and its number of pretrainings.
    """
    entries, seconds = [], {}
    for number, (row, skill, pretrainings) in enumerate(rows):
        parts = [f"{n}_{value}" for n, value in row.items() if n not in ("model", "head", "mix")]
        name = "-".join([row["model"], *parts])
        encoders = [f"{name}-{2013 + i}" for i in range(pretrainings)]
        own = [[seed] for seed in SEEDS[:pretrainings]] if pretrainings > 1 else [SEEDS]
        for corpus in corpora:
            for protocol in protocols:
                entry = entry_of(row, corpus, protocol, encoders, done=skill is not None)
                entries.append(entry)
                for run, seeds in zip(entry["runs"], own, strict=True):
                    if skill is not None:
                        heard = corpus == "RAVDESS"
                        place = Path(work) / run
                        write_run(place, corpus, protocol, skill, seeds, heard, 1000 * number)
        for name in encoders if skill is not None else []:
            write_history(Path(work) / "cells" / name, 0.6 if "random" in name else 0.44)
            seconds[name] = 150.0
    record = {
        "size": size,
        "wall_seconds": 5400.0,
        "jobs": 2,
        "threads": 1,
        "seconds": seconds,
        "commands": {name: f"recipes/LSSED/pretrain$ python train.py # {name}" for name in seconds},
        "git": ["abc"],
        "rows": entries,
    }
    (Path(work) / "rows.json").write_text(json.dumps(record))
    return Path(work)
