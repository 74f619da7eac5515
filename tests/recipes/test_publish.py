"""Publishing copies metrics and figures, and nothing else."""

import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest

from vesper_lobes.run_metrics import build_metrics, write_metrics

ROOT = Path(__file__).resolve().parents[2]


def predictions():
    columns = {"ID": list("abcd"), "speaker": list("1122"), "dialogue": "", "fold": 1}
    table = pd.DataFrame({**columns, "target": list("xyxy"), "prediction": list("xyxx")})
    return {1: {1: table}}


@pytest.fixture
def run_folder(tmp_path):
    """What a run leaves: metrics, figures, and much that must stay where it is."""
    folder = tmp_path / "run"
    metrics = build_metrics(
        predictions(),
        corpus="EmoDB",
        protocol="B",
        classes=["x", "y"],
        ssl_saw_test_audio=True,
        params=1_230_000,
        trainable_params=10,
        seconds={"total": 1.0},
        baselines={"mfcc_ridge": predictions(), "teacher": predictions()},
        fold_details={(1, 1): {"selected_on_test": True}},
        draws=50,
    )
    write_metrics(metrics, folder / "metrics.json")
    (folder / "run.json").write_text(json.dumps({"encoder": "vesper_mini"}))
    (folder / "hyperparams.yaml").write_text("# Generated today from:\n# /a/b/vesper_mini.yaml\n")
    for name in ("a.wav", "model.safetensors", "states.npy", "log.txt", "confusion.png"):
        (folder / name).write_text("")
    (folder / "seed1").mkdir()
    (folder / "seed1" / "predictions.csv").write_text("")
    return folder


@pytest.fixture
def publish(capsys):
    """``publish(run, results, *options)``: exit status and what stood on stderr."""
    spec = importlib.util.spec_from_file_location("publish", ROOT / "recipes" / "publish.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(folder, results, *options):
        status = module.main([str(folder), "--results", str(results), *options])
        return status, capsys.readouterr().err

    return run


def test_metrics_and_figures_only_in_the_corpus_and_configs_folder(publish, run_folder, tmp_path):
    status, error = publish(run_folder, tmp_path / "results")
    assert status == 0, error
    files = [p.relative_to(tmp_path / "results") for p in (tmp_path / "results").rglob("*.*")]
    names = ("confusion.png", "metrics.json", "run.json")
    assert sorted(map(str, files)) == [f"emodb/vesper_mini/{name}" for name in names]


def test_a_path_of_this_machine_is_refused(publish, run_folder, tmp_path):
    (run_folder / "run.json").write_text(json.dumps({"encoder": "/home/someone/vesper"}))
    status, error = publish(run_folder, tmp_path / "results")
    assert status == 1 and "/home/someone/vesper" in error
    assert not (tmp_path / "results").exists()


def test_an_unfinished_run_is_refused(publish, run_folder, tmp_path):
    (run_folder / "metrics.json").unlink()
    status, error = publish(run_folder, tmp_path / "results")
    assert status == 1 and "no metrics.json" in error


def test_the_config_can_be_named(publish, run_folder, tmp_path):
    (run_folder / "hyperparams.yaml").unlink()
    assert "--config" in publish(run_folder, tmp_path / "results")[1]
    assert publish(run_folder, tmp_path / "results", "--config", "mine") == (0, "")
    assert (tmp_path / "results" / "emodb" / "mine" / "metrics.json").is_file()
