"""compare.py: paired differences of two invented runs, and what it refuses."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vesper_lobes.run_metrics import build_metrics, write_metrics

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["calm", "angry"]


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("compare", ROOT / "recipes" / "compare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def invented(share_right, seed, fold, speakers=8, clips=20):
    """Predictions of one fold, right with a probability that varies strongly by speaker."""
    random = np.random.default_rng([seed, fold])
    rows = []
    for speaker in range(speakers):
        ease = speaker / speakers - 0.5  # the same for every run
        for clip in range(clips):
            target = clip % 2
            right = random.random() < share_right + 0.5 * ease
            names = f"{fold}-{speaker}-{clip}", f"s{fold}{speaker}", f"d{fold}{speaker}{clip % 4}"
            rows.append((*names, CLASSES[target], CLASSES[target if right else 1 - target]))
    return pd.DataFrame(rows, columns=["ID", "speaker", "dialogue", "target", "prediction"])


def write_run(folder, share_right, seeds=(1, 2), corpus="EmoDB", protocol="B", **changes):
    """A run's metrics.json and predictions of two folds."""
    cells = {s: {k: invented(share_right, s, k, **changes) for k in (1, 2)} for s in seeds}
    for seed, folds in cells.items():
        for fold, table in folds.items():
            path = folder / f"seed{seed}" / f"fold{fold}" / "predictions.csv"
            path.parent.mkdir(parents=True)
            table.to_csv(path, index=False)
    metrics = build_metrics(
        cells,
        corpus=corpus,
        protocol=protocol,
        classes=CLASSES,
        ssl_saw_test_audio=False,
        params=1,
        trainable_params=1,
        seconds={},
        groups="dialogue" if corpus == "MELD" else "speaker",
        draws=50,
    )
    write_metrics(metrics, folder / "metrics.json")
    return metrics


def test_a_clear_difference_is_sure_although_the_runs_intervals_overlap(module, tmp_path):
    a, b = (write_run(tmp_path / n, share) for n, share in (("a", 0.72), ("b", 0.6)))
    found = module.compare(tmp_path / "a", tmp_path / "b", draws=500)
    row = found["scores"]["UA"]
    assert row["difference"] == pytest.approx(a["pooled"]["UA"] - b["pooled"]["UA"])
    assert row["ci"][0] > 0 and row["share_above_zero"] == 1
    assert a["ci"]["UA"][0] < b["ci"]["UA"][1]  # alone, the intervals would decide nothing
    assert found["n"] == 320 and found["seeds"] == [2, 2] and found["notes"] == []
    back = module.compare(tmp_path / "b", tmp_path / "a", draws=500)["scores"]["UA"]
    assert back["difference"] == pytest.approx(-row["difference"])


def test_a_run_against_itself_is_no_difference(module, tmp_path, capsys):
    write_run(tmp_path / "a", 0.7)
    assert module.main([str(tmp_path / "a"), str(tmp_path / "a")]) == 0
    text = capsys.readouterr().out
    assert "+0.0  [+0.0, +0.0]" in text and "within noise" in text and "speakers" in text


def test_json_and_the_dialogues_of_meld(module, tmp_path, capsys):
    for name, share in (("a", 0.7), ("b", 0.6)):
        write_run(tmp_path / name, share, corpus="MELD")
    assert module.main([str(tmp_path / "a"), str(tmp_path / "b"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["groups"] == "dialogue" and set(found["scores"]) == {"WA", "UA", "WF1", "macroF1"}


def test_other_protocols_are_noted(module, tmp_path):
    write_run(tmp_path / "a", 0.7, protocol="A")
    write_run(tmp_path / "b", 0.7)
    assert module.compare(tmp_path / "a", tmp_path / "b", draws=20)["notes"] == [
        "protocol differs: A and B"
    ]


def test_a_baseline_of_the_run_with_fewer_seeds(module, tmp_path):
    write_run(tmp_path / "a", 0.7)
    write_run(tmp_path / "other", 0.6, seeds=(1,))
    floor = tmp_path / "a" / "baselines" / "mfcc_ridge"
    floor.parent.mkdir()
    (tmp_path / "other" / "metrics.json").unlink()
    (tmp_path / "other").rename(floor)
    assert module.compare(tmp_path / "a", floor, draws=20)["seeds"] == [2, 1]


def test_seeds_that_lie_beside_the_reported_ones_take_no_part(module, tmp_path):
    write_run(tmp_path / "a", 0.7)
    write_run(tmp_path / "b", 0.6)
    before = module.compare(tmp_path / "a", tmp_path / "b", draws=20)
    old = tmp_path / "a" / "seed7" / "fold1" / "predictions.csv"
    old.parent.mkdir(parents=True)
    invented(0.1, 7, 1).to_csv(old, index=False)
    assert module.compare(tmp_path / "a", tmp_path / "b", draws=20) == before


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"clips": 18}, "utterances are not in all tables"),
        ({"corpus": "RAVDESS"}, "corpus is EmoDB and RAVDESS"),
    ],
)
def test_what_cannot_be_compared_is_refused(module, tmp_path, capsys, changes, complaint):
    write_run(tmp_path / "a", 0.7)
    write_run(tmp_path / "b", 0.7, **changes)
    assert module.main([str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert complaint in capsys.readouterr().err


def test_a_folder_that_is_no_run(module, tmp_path, capsys):
    assert module.main([str(tmp_path), str(tmp_path)]) == 1
    assert "no metrics.json" in capsys.readouterr().err
    write_run(tmp_path / "a", 0.7)
    (tmp_path / "a" / "seed2" / "fold2" / "predictions.csv").unlink()
    assert module.main([str(tmp_path / "a"), str(tmp_path / "a")]) == 1
    assert "(2, 2) are missing" in capsys.readouterr().err
