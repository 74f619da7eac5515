"""unheard.py: only test speakers that no pretraining heard are scored."""

import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest

from vesper_lobes.run_metrics import build_metrics, read_metrics, write_metrics

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("unheard", ROOT / "recipes" / "unheard.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tmp_path):
    """Right on the heard speakers 1 to 4, half right on 5 and 6; fold 1 tests heard ones only."""
    cells = {7: {}}
    for fold, speakers in enumerate(("12", "34", "56"), start=1):
        rows = [(f"{s}-{i}", s, "", t) for s in speakers for i, t in enumerate("xyxy")]
        table = pd.DataFrame(rows, columns=["ID", "speaker", "dialogue", "target"])
        table["prediction"] = table["target"] if fold < 3 else "x"
        cells[7][fold] = table
        for top in (tmp_path, tmp_path / "baselines" / "mfcc_ridge"):
            path = top / "seed7" / f"fold{fold}" / "predictions.csv"
            path.parent.mkdir(parents=True)
            table.to_csv(path, index=False)
    metrics = build_metrics(
        cells,
        corpus="RAVDESS",
        protocol="B",
        classes=["x", "y"],
        ssl_saw_test_audio=True,
        params=1,
        trainable_params=1,
        seconds={},
        baselines={"mfcc_ridge": cells},
        draws=20,
    )
    write_metrics(metrics, tmp_path / "metrics.json")
    return tmp_path


def record(folder, speakers):
    folder.mkdir()
    text = json.dumps({"speakers": {"RAVDESS": speakers}})
    (folder / "pretraining.json").write_text(text)
    return str(folder)


def test_only_the_unheard_count(module, run, tmp_path, capsys):
    encoder = record(tmp_path / "encoder", ["1", "2", "3", "4"])
    assert module.main([str(run), encoder]) == 0
    clean = read_metrics(run / "unheard" / "metrics.json")
    assert clean["n"] == 8 and clean["pooled"]["UA"] == 0.5 and not clean["ssl_saw_test_audio"]
    assert [cell["fold"] for cell in clean["folds"]] == [3]
    assert clean["baselines"]["mfcc_ridge"]["UA"] == 0.5
    assert read_metrics(run / "metrics.json")["pooled"]["UA"] == pytest.approx(5 / 6)
    assert "UA 50.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("heard", "complaint"),
    [(list("12345"), "too few"), ([], "names no speaker"), (["1", ""], "without a speaker")],
)
def test_without_a_clean_part_it_says_why(module, run, tmp_path, capsys, heard, complaint):
    encoder = record(tmp_path / "encoder", heard)
    assert module.main([str(run), encoder]) == 1
    assert complaint in capsys.readouterr().err and not (run / "unheard").exists()
