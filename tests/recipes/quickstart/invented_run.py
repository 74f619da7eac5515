"""A quickstart's results folder with invented figures, written with the project's own writers."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from data_prep.synthetic_prepare import prepare_synthetic
from vesper_lobes.run_metrics import build_metrics, write_metrics

CLASSES = ["angry", "happy", "neutral", "sad"]
SEEDS = [1986, 1987, 1988]
# share of right answers by model; extraction is put above the encoder on purpose
SKILL = {
    "encoder": 0.70,
    "teacher": 0.72,
    "extraction": 0.80,
    "random_init": 0.45,
    "mfcc_ridge": 0.66,
}
PARAMS = {name: 6_100_000 if name == "teacher" else 1_300_000 for name in list(SKILL)[:4]}
SECONDS = {"corpus": 17.2, "teacher": 101.0, "pretrain": 74.5, "emotion": 41.0, "report": 9.0}


def write(folder, name, value):
    """JSON, with the folders it needs."""
    path = Path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def make_corpus(folder, speakers=12, sentences=3):
    """Bursts of a tone: loud, soft and silent stretches, so that all three zones occur."""
    random = np.random.default_rng(0)
    for speaker in range(1, speakers + 1):
        for emotion in CLASSES:
            for sentence in range(1, sentences + 1):
                time = np.arange(int(16000 * random.uniform(1.2, 2.2))) / 16000
                level = np.clip(np.sin(2 * np.pi * 2.5 * time), 0.02, 1) * np.exp(-0.6 * time)
                wav = 0.5 * level * np.sin(2 * np.pi * (100 + 20 * speaker) * time)
                name = f"spk{speaker:02d}_{emotion}_s{sentence:02d}.wav"
                path = folder / f"spk{speaker:02d}" / emotion / name
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, wav, 16000)


def predict(test, skill, seed):
    """Predictions that are right with probability `skill`."""
    random = np.random.default_rng(seed)
    table = test[["ID", "speaker", "dialogue"]].copy()
    table["target"] = list(test["emotion"])
    wrong = random.choice(CLASSES, len(test))
    table["prediction"] = np.where(random.random(len(test)) < skill, table["target"], wrong)
    for name in CLASSES:
        table[f"p_{name}"] = np.where(table["prediction"] == name, 0.7, 0.1)
    return table


def make_emotion(folder, corpus):
    """What recipes/quickstart/train.py leaves."""
    prepared = prepare_synthetic(corpus, folder / "manifest")
    test = pd.read_csv(prepared.folds[0].test, dtype=str, keep_default_na=False)
    tables = {}
    for number, (model, skill) in enumerate(SKILL.items()):
        top = folder if model == "encoder" else folder / "baselines" / model
        for seed in SEEDS[:1] if model == "mfcc_ridge" else SEEDS:
            table = predict(test, skill, 100 * number + seed)
            place = top / f"seed{seed}" / "fold1"
            place.mkdir(parents=True)
            table.to_csv(place / "predictions.csv", index=False)
            tables.setdefault(model, {})[seed] = {1: table}
            history = [{"epoch": e, "UA": 0.7 - 0.4 / e, "dev_loss": 1 / e} for e in range(1, 51)]
            write(place, "cell.json", {"seed": seed, "best": {"epoch": 30}, "history": history})
    metrics = build_metrics(
        tables["encoder"],
        corpus="synthetic",
        protocol="B",
        classes=CLASSES,
        ssl_saw_test_audio=False,
        params=PARAMS["encoder"],
        trainable_params=50_436,
        seconds={"total": 31.0},
        baselines={name: table for name, table in tables.items() if name != "encoder"},
        draws=200,
    )
    write_metrics(metrics, folder / "metrics.json")
    encoders = {name: {"weights": "0" * 64, "params": params} for name, params in PARAMS.items()}
    write(folder, "run.json", {"encoders": encoders, "layer_weights": [0.2, 0.45, 0.35], "dev": {}})
    return test


def make_run(results):
    """The whole folder; returns it."""
    results = Path(results)
    work = results / "work"
    make_corpus(work / "corpus")
    test = make_emotion(work / "emotion", work / "corpus")
    epochs = np.arange(1, 13)
    common = [{"epoch": int(e), "optimizer_steps": int(10 * e), "audio_hours": 0.1} for e in epochs]

    def teacher_row(epoch):
        scores = {"loss": 4.6 - 0.1 * epoch, "accuracy": 0.02 * epoch}
        return {"train": {**scores, "mask": 0.5}, "valid": scores}

    def vesper_row(epoch):
        return {"train": {"l": 1 / epoch, "h": 8 / epoch, "x": 3 / epoch}, "valid": {}}

    teacher = [{**row, **teacher_row(row["epoch"])} for row in common]
    vesper = [{**row, **vesper_row(row["epoch"])} for row in common]
    write(work, "teacher/history.json", teacher)
    write(work, "pretrain/history.json", vesper)
    record = {"compression": "extraction: 2 of 12 layers <- 1, 7", "masking": "guided"}
    write(work, "pretrain/export/pretraining.json", record)
    row = test[test["emotion"] == "angry"].iloc[0]
    answer = {
        "ID": row["ID"],
        "file": f"{row['ID']}.wav",
        "duration": 1.9,
        "target": "angry",
        "label": "happy",
        "probabilities": {"angry": 0.31, "happy": 0.52, "neutral": 0.12, "sad": 0.05},
        "seconds": 0.034,
    }
    write(work, "classified.json", answer)
    stages = [
        {
            "name": name,
            "title": name.title(),
            "what": "what <it> does & why",
            "seconds": seconds,
            "budget_seconds": 50,
            "reused": False,
            "folder": "recipes/x",
            "commands": [f"python {name}.py"],
        }
        for name, seconds in SECONDS.items()
    ]
    machine = {"cores": 2, "machine": "x86_64", "python": "3.11.7"}
    timings = {"stages": stages, "total_seconds": 242.7, "machine": machine}
    write(results, "timings.json", timings)
    return results
