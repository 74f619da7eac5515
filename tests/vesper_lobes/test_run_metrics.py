"""metrics.json: the contract's fields, from per-seed, per-fold predictions."""

import json
import os
import subprocess

import numpy as np
import pandas as pd
import pytest

from vesper_lobes.bootstrap import bootstrap_ci
from vesper_lobes.metrics import METRICS, scores
from vesper_lobes.run_metrics import (
    build_metrics,
    git_commit,
    pool_folds,
    read_metrics,
    read_predictions,
    validate_metrics,
    write_metrics,
)

CLASSES = ["anger", "neutral", "sadness"]
FIELDS = """corpus protocol seeds classes n pooled mean_of_folds ci per_class confusion folds
baselines chance ssl_saw_test_audio params trainable_params seconds git""".split()


def predictions(seeds=(11, 12), folds=(1, 2), skill=3.0, probabilities=True):
    """``[seed][fold]`` tables of two speakers a fold; folds of unequal size."""
    found = {}
    for seed in seeds:
        for fold in folds:
            size = 20 * fold
            targets = np.random.default_rng(fold).integers(0, 3, size)
            rng = np.random.default_rng(seed * 100 + fold)
            logits = rng.normal(size=(size, 3)) + skill * np.eye(3)[targets] * rng.random((size, 1))
            p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            columns = {
                "ID": [f"f{fold}_{i:03d}" for i in range(size)],
                "speaker": [f"{2 * fold + i % 2:02d}" for i in range(size)],
                "dialogue": "",
                "target": [CLASSES[t] for t in targets],
                "prediction": [CLASSES[c] for c in p.argmax(1)],
            }
            if probabilities:
                columns.update({f"p_{name}": p[:, c] for c, name in enumerate(CLASSES)})
            found.setdefault(seed, {})[fold] = pd.DataFrame(columns)
    return found


def built(tables=None, **changes):
    settings = dict(
        corpus="EmoDB",
        protocol="B",
        classes=CLASSES,
        ssl_saw_test_audio=False,
        params=1000,
        trainable_params=np.int64(10),
        seconds={"train": np.float64(1.5)},
        baselines={"random_init": predictions(skill=0.5), "mfcc_ridge": predictions(seeds=(0,))},
        git="abc",
        draws=200,
    )
    return build_metrics(tables or predictions(), **{**settings, **changes})


def test_fields_are_the_contracts_and_survive_json(tmp_path):
    metrics = built()
    assert list(metrics) == FIELDS
    write_metrics(metrics, tmp_path / "run" / "metrics.json")
    assert read_metrics(tmp_path / "run" / "metrics.json") == metrics
    assert os.listdir(tmp_path / "run") == ["metrics.json"]  # no temporary name stays


def test_pooled_is_the_mean_over_seeds_of_pooled_folds():
    tables, metrics = predictions(), built()
    numbered = [
        [[CLASSES.index(c) for c in pooled[column]] for column in ("target", "prediction")]
        for pooled in pool_folds(tables)
    ]
    for name in METRICS:
        by_hand = np.mean([scores(*columns, 3)[name] for columns in numbered])
        assert metrics["pooled"][name] == pytest.approx(by_hand)
    assert metrics["n"] == 60 and metrics["seeds"] == [11, 12]
    assert metrics["ci"] == bootstrap_ci(pool_folds(tables), CLASSES, draws=200)


def test_mean_of_folds_weighs_folds_equally():
    metrics = built()
    assert [(c["seed"], c["fold"]) for c in metrics["folds"]] == [
        (11, 1),
        (11, 2),
        (12, 1),
        (12, 2),
    ]
    for name in METRICS:
        by_hand = np.mean([cell[name] for cell in metrics["folds"]])
        assert metrics["mean_of_folds"][name] == pytest.approx(by_hand)
    assert metrics["mean_of_folds"]["WA"] != metrics["pooled"]["WA"]  # folds differ in size
    assert all(0 <= cell["ECE"] <= 1 for cell in metrics["folds"])


def test_confusion_and_classes():
    metrics = built()
    confusion = np.array(metrics["confusion"])
    assert confusion.sum() == 120  # two seeds of 60
    for i, name in enumerate(CLASSES):
        assert metrics["per_class"][name]["support"] == confusion[i].sum() / 2
        recall = confusion[i, i] / confusion[i].sum()
        assert metrics["per_class"][name]["recall"] == pytest.approx(recall)
    assert metrics["chance"] == {"UA": pytest.approx(1 / 3)}


def test_baselines():
    metrics = built()
    weak, floor = metrics["baselines"]["random_init"], metrics["baselines"]["mfcc_ridge"]
    assert set(weak) == set(floor) == {"UA", "ci"}
    assert weak["UA"] < metrics["pooled"]["UA"]
    scored = built(baselines={"teacher": {"UA": 0.5, "ci": [np.float64(0.4), 0.6]}})
    assert scored["baselines"] == {"teacher": {"UA": 0.5, "ci": [0.4, 0.6]}}
    with pytest.raises(ValueError, match="not in all tables"):
        built(baselines={"teacher": predictions(folds=(1,))})


def test_folds_may_carry_more_and_probabilities_may_lack():
    metrics = built(
        predictions(probabilities=False), fold_details={(11, 2): {"epoch": 7}}, baselines=None
    )
    assert metrics["folds"][1]["epoch"] == 7 and "epoch" not in metrics["folds"][0]
    assert "ECE" not in metrics["folds"][0] and metrics["baselines"] == {}


def test_intervals_by_dialogue():
    tables = predictions()
    with pytest.raises(ValueError, match="no dialogue"):
        built(tables, groups="dialogue")
    for folds in tables.values():
        for table in folds.values():
            table["dialogue"] = [f"d{i // 5}" for i in range(len(table))]
    assert built(tables, groups="dialogue", baselines=None)["ci"] != built(tables)["ci"]


def test_predictions_read_back_from_a_run_folder(tmp_path):
    tables = predictions()
    for seed, folds in tables.items():
        for fold, table in folds.items():
            cell = tmp_path / f"seed{seed}" / f"fold{fold}"
            cell.mkdir(parents=True)
            table.to_csv(cell / "predictions.csv", index=False)
    assert built(read_predictions(tmp_path)) == built(tables)  # speaker 02 stays 02
    with pytest.raises(ValueError, match="no seed"):
        read_predictions(tmp_path / "seed11")


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda m: m.pop("ci"), "missing .*ci"),
        (lambda m: m.update(more=1), "unknown .*more"),
        (lambda m: m.update(n=True), "n is a bool"),
        (lambda m: m["pooled"].update(UA=float("nan")), "pooled.UA is nan"),
        (lambda m: m["pooled"].update(UA=np.float64(0.5)), "pooled.UA is a float64"),
        (lambda m: m["pooled"].pop("UA"), "pooled must hold"),
        (lambda m: m["ci"].update(UA=[0.6, 0.5]), "interval"),
        (lambda m: m["pooled"].update(WA=1.5), "outside"),
        (lambda m: m["confusion"].pop(), "confusion"),
        (lambda m: m["baselines"]["mfcc_ridge"].pop("ci"), "mfcc_ridge"),
    ],
)
def test_wrong_metrics_are_refused_on_both_ways(tmp_path, spoil, message):
    metrics = built()
    spoil(metrics)
    with pytest.raises(ValueError, match=message):
        write_metrics(metrics, tmp_path / "metrics.json")
    assert not os.listdir(tmp_path)
    (tmp_path / "old.json").write_text(json.dumps(metrics, default=float))
    if "float64" not in message:
        with pytest.raises(ValueError, match="old.json"):
            read_metrics(tmp_path / "old.json")


def test_bad_predictions_are_refused():
    tables = predictions()
    tables[11][1]["p_anger"] = 2.0
    with pytest.raises(ValueError, match="sum to 1"):
        built(tables)
    tables = predictions()
    tables[11][2]["ID"] = [f"f1_{i:03d}" for i in range(40)]
    with pytest.raises(ValueError, match="predicted twice"):
        built(tables)
    with pytest.raises(ValueError, match="at least one seed"):
        pool_folds({})


def test_git_commit(tmp_path):
    assert git_commit(tmp_path) is None

    def git(*words):
        names = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *names, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "first")
    clean = git_commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "file").write_text("2")
    assert git_commit(tmp_path) == clean + "-dirty"


def test_validate_returns_what_it_checked():
    metrics = built()
    assert validate_metrics(metrics) is metrics
