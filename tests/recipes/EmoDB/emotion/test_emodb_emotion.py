"""The EmoDB recipe from the command line to metrics.json and the exported model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from vesper_lobes.export import load_classifier
from vesper_lobes.run_metrics import read_metrics, read_predictions

RECIPE = Path(__file__).resolve().parents[4] / "recipes" / "EmoDB" / "emotion"
CLASSES = ["angry", "happy", "neutral", "sad"]


def cell_times(folder):
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob("cell.json")}


def test_metrics_hold_the_encoder_and_every_baseline(whole_run):
    folder, metrics = whole_run
    assert metrics == read_metrics(folder / "metrics.json")
    assert metrics["classes"] == CLASSES and metrics["n"] == 40 and metrics["seeds"] == [1, 2]
    names = ["mfcc_ridge", "random_init", "teacher", "extraction"]
    assert list(metrics["baselines"]) == names
    assert metrics["baselines"]["mfcc_ridge"]["UA"] > 0.6  # pitch tells the invented classes apart
    assert len(metrics["folds"]) == 10
    assert not any(fold["selected_on_test"] for fold in metrics["folds"])
    assert metrics["trainable_params"] == 3 + 32 * 256 + 256 + 256 * 4 + 4


def test_each_utterance_is_tested_once_a_seed_by_a_head_that_never_met_its_speaker(whole_run):
    folder, _ = whole_run
    for folds in read_predictions(folder).values():
        tested = pd.concat(folds.values())
        assert len(tested) == 40 and tested["ID"].is_unique
        for number, table in folds.items():
            for name in ("train", "dev"):
                path = folder / "manifest" / "folds" / "B" / f"fold{number}_{name}.csv"
                assert not set(table["speaker"]) & set(pd.read_csv(path, dtype=str)["speaker"])


def test_no_folder_of_a_seed_nobody_asked_for(whole_run):
    assert sorted(path.name for path in whole_run[0].glob("seed*")) == ["seed1", "seed2"]


def test_a_repeated_run_trains_nothing(whole_run, launch, encoders):
    folder, metrics = whole_run
    before = cell_times(folder)
    options = ("--teacher", encoders / "teacher", "--head_seeds", "[1, 2]")
    again = launch(folder, *options)
    assert cell_times(folder) == before
    assert again["pooled"] == metrics["pooled"] and again["baselines"] == metrics["baselines"]


def test_an_interrupted_run_makes_only_what_is_missing_and_the_same(launch, tmp_path):
    launch(tmp_path, "--baselines", "[]", "--head_seeds", "1")
    lost = tmp_path / "seed1" / "fold3"
    predictions, before = (lost / "predictions.csv").read_bytes(), cell_times(tmp_path)
    (lost / "cell.json").unlink()  # what a run killed in the middle of a cell leaves
    launch(tmp_path, "--baselines", "[]", "--head_seeds", "1")
    after = cell_times(tmp_path)
    assert [path for path in after if after[path] != before[path]] == [lost / "cell.json"]
    assert (lost / "predictions.csv").read_bytes() == predictions


def test_other_settings_never_reuse_a_cell(launch, tmp_path):
    launch(tmp_path, "--baselines", "[]", "--head_seeds", "1")
    before = cell_times(tmp_path)
    launch(tmp_path, "--baselines", "[]", "--head_seeds", "1", "--lr", "2e-3")
    after = cell_times(tmp_path)
    assert len(after) == 5 and all(after[path] != before[path] for path in before)


def test_protocol_a_is_marked(launch, tmp_path):
    options = ("--protocol", "A", "--baselines", "[mfcc_ridge]", "--head_seeds", "1")
    metrics = launch(tmp_path, *options)
    assert metrics["protocol"] == "A"
    assert all(fold["selected_on_test"] for fold in metrics["folds"])
    assert json.loads((tmp_path / "run.json").read_text())["selection_metric"] == "WA+UA"


def test_baselines_without_a_teacher_are_left_out_with_the_reason(launch, tmp_path, capsys):
    metrics = launch(tmp_path, "--head_seeds", "1")
    assert list(metrics["baselines"]) == ["mfcc_ridge", "random_init"]
    skipped = json.loads((tmp_path / "run.json").read_text())["skipped_baselines"]
    reason = "no --teacher was given"
    assert skipped == {"teacher": reason, "extraction": reason}
    assert "left out: no --teacher was given" in capsys.readouterr().out


def test_the_exported_classifier_gives_the_cells_own_probabilities(whole_run, emodb_tree):
    folder, _ = whole_run
    cells = [json.loads(path.read_text()) for path in sorted(folder.glob("seed*/fold*/cell.json"))]
    best = max(cells, key=lambda cell: cell["best"]["score"])
    table = pd.read_csv(folder / f"seed{best['seed']}" / f"fold{best['fold']}" / "predictions.csv")
    classifier = load_classifier(folder / "model")
    files = [str(emodb_tree / "wav" / f"{name}.wav") for name in table["ID"]]
    labels, probabilities = classifier.classify(files)
    expected = torch.tensor(table[[f"p_{name}" for name in CLASSES]].to_numpy()).float()
    assert torch.allclose(probabilities, expected, atol=1e-4)
    assert labels == table["prediction"].tolist()


def test_vesper4_runs_with_the_papers_optimizer(launch, tmp_path):
    metrics = launch(tmp_path, "--baselines", "[]", "--head_seeds", "1", hparams="vesper4")
    assert metrics["n"] == 40


def test_vesper4_holds_table_i():
    text = (RECIPE / "hparams" / "vesper4.yaml").read_text()
    plain = {
        line.split(":")[0]: yaml.safe_load(line.split(":", 1)[1].split("#")[0])
        for line in text.splitlines()
        if line.startswith(
            ("number_of_", "batch_size", "lr:", "lr_final", "mom", "weight_", "warm")
        )
    }
    table = dict(number_of_epochs=50, batch_size=32, lr=7e-4, lr_final=7e-6, momentum=0.9)
    assert plain == {**table, "weight_decay": 0.01, "warmup_epochs": 0}
    assert "!name:torch.optim.SGD" in text


def test_the_command_of_the_readme(emodb_tree, encoders, tmp_path):
    root = RECIPE.parents[2]
    command = [sys.executable, "train.py", "hparams/vesper_mini.yaml", "--head_seeds", "1"]
    command += ["--data_folder", str(emodb_tree), "--encoder", str(encoders / "student")]
    command += ["--output_folder", str(tmp_path), "--allow_partial", "True", "--baselines", "[]"]
    command += ["--number_of_epochs", "1"]
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=RECIPE, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert read_metrics(tmp_path / "metrics.json")["ssl_saw_test_audio"]  # no record: not clean
    assert "transductive" in done.stdout + done.stderr


@pytest.mark.slow
def test_real_emodb_with_an_untrained_encoder(test_data, encoders, launch, tmp_path):
    data = test_data / "emodb4"
    if not data.is_dir():
        pytest.skip("VESPER_TEST_DATA holds no emodb4")
    options = ("--head_seeds", "1", "--allow_partial", "False")
    metrics = launch(tmp_path, "--data_folder", data, "--baselines", "[mfcc_ridge]", *options)
    assert metrics["n"] == 339
    support = {name: entry["support"] for name, entry in metrics["per_class"].items()}
    assert support == {"angry": 127, "happy": 71, "neutral": 79, "sad": 62}
    assert metrics["baselines"]["mfcc_ridge"]["UA"] > 0.5
