"""Own labelled audio: folder, csv or file names in, folds by speaker, a model and a report out."""

import csv
import importlib.util
import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from corpus_trees import pitch_of, sounding
from recipe_runs import RECIPES, kept_logging, save_tiny_encoder

from vesper_lobes.export import load_classifier
from vesper_lobes.run_metrics import read_metrics

RECIPE = RECIPES / "own_data" / "emotion"
EMOTIONS = ("angry", "calm", "tired")
PITCH = pitch_of(EMOTIONS)


@pytest.fixture(scope="module")
def train():
    """The recipe's train.py as a module; its folder must be on the path, as in a run."""
    sys.path.insert(0, str(RECIPE))
    try:
        spec = importlib.util.spec_from_file_location("own_data_train", RECIPE / "train.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(RECIPE))
        sys.modules.pop("own_report", None)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Folders speaker/emotion: six speakers, two clips of each emotion."""
    root = tmp_path_factory.mktemp("clips")
    for speaker in range(6):
        for emotion in EMOTIONS:
            for take in range(2):
                path = root / f"person{speaker}" / emotion / f"{speaker}_{emotion}_{take}.wav"
                sounding(lambda path: PITCH[path.parent.name])(path, 0.4)
    return root


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def run(train, tree, encoder):
    """``run(output, *options)``: the recipe in this process; its metrics."""

    def start(output, *options, config="vesper_mini"):
        argv = [str(RECIPE / "hparams" / f"{config}.yaml"), "--data_folder", str(tree)]
        argv += ["--output_folder", str(output), "--encoder", str(encoder), "--device", "cpu"]
        argv += ["--number_of_epochs", "2", "--head_seeds", "1", "--num_folds", "3"]
        argv += ["--ssl_saw_test_audio", "False", "--baselines", "[mfcc_ridge]"]
        with kept_logging():
            train.main([*argv, *map(str, options)])
        return read_metrics(output / "metrics.json")

    return start


def test_a_folder_gives_folds_by_speaker_a_model_and_a_report(run, tree, tmp_path, capsys):
    metrics = run(tmp_path, "--layout", "speaker/emotion")
    assert metrics["classes"] == list(EMOTIONS) and metrics["n"] == 36
    assert metrics["baselines"]["mfcc_ridge"]["UA"] > 0.7
    for k in (1, 2, 3):
        folder = tmp_path / "manifest" / "folds" / "B"
        names = [folder / f"fold{k}_{name}.csv" for name in ("train", "dev", "test")]
        sets = [set(pd.read_csv(path)["speaker"]) for path in names]
        assert sum(map(len, sets)) == len(set.union(*sets)) == 6
    labels, _ = load_classifier(tmp_path / "model").classify(str(next(tree.rglob("*.wav"))))
    assert labels[0] in EMOTIONS
    report = (tmp_path / "report.md").read_text()
    assert f"| UA | {100 * metrics['pooled']['UA']:.1f} |" in report
    assert "36 clips, 6 speakers" in report and "| angry | 12 |" in report
    assert "never on the test fold" in report and "Transductive" not in report
    assert str(tmp_path / "report.md") in capsys.readouterr().out


def test_a_csv_with_other_column_names_and_merged_labels(run, tree, tmp_path):
    with open(tmp_path / "labels.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["clip", "target", "who"])
        for path in sorted(tree.rglob("*.wav")):
            writer.writerow([path.relative_to(tree), path.parent.name, path.parts[-3]])
    options = ("--csv_file", tmp_path / "labels.csv", "--export", "null")
    names = ("--columns", "{wav: clip, emotion: target, speaker: who}")
    merged = ("--label_names", "{angry: loud, calm: quiet, tired: quiet}")
    metrics = run(tmp_path / "run", *options, *names, *merged)
    assert metrics["classes"] == ["loud", "quiet"] and metrics["n"] == 36
    assert metrics["chance"]["UA"] == 0.5
    assert "switches it off" in (tmp_path / "run" / "report.md").read_text()


def test_labels_in_file_names(run, tmp_path):
    options = ("--names", "SPEAKER_EMOTION_*", "--export", "null")
    metrics = run(tmp_path, *options, config="vesper4")
    assert metrics["classes"] == list(EMOTIONS) and metrics["n"] == 36


def test_classes_in_the_order_asked_for(run, tmp_path):
    options = ("--layout", "speaker/emotion", "--classes", "[tired, calm, angry]")
    metrics = run(tmp_path, *options, "--export", "null")
    assert metrics["classes"] == ["tired", "calm", "angry"]


def test_protocol_a_is_called_what_it_is(run, tmp_path):
    run(tmp_path, "--layout", "speaker/emotion", "--protocol", "A", "--export", "null")
    assert "these scores flatter" in (tmp_path / "report.md").read_text()


def test_without_speakers_there_is_no_honest_split(run, tmp_path):
    with pytest.raises(ValueError, match="no speaker"):
        run(tmp_path, "--layout", "_/emotion")


def test_one_label_is_not_enough(run, tmp_path):
    with pytest.raises(ValueError, match="at least two classes are needed"):
        run(tmp_path, "--layout", "speaker/emotion", "--label_names", "{angry: angry}")


@pytest.mark.slow
def test_the_command_of_the_readme(tree, encoder, tmp_path):
    command = [sys.executable, "train.py", "hparams/vesper_mini.yaml", "--head_seeds", "1"]
    command += ["--data_folder", str(tree), "--layout", "speaker/emotion", "--num_folds", "3"]
    command += ["--encoder", str(encoder), "--output_folder", str(tmp_path), "--baselines", "[]"]
    env = {**os.environ, "PYTHONPATH": str(RECIPES.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=RECIPE, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "run.json").read_text())["skipped_baselines"] == {}
    assert (tmp_path / "report.md").is_file()
