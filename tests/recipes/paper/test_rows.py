"""Rows: the paper's figures as printed, names of rows, and what several runs come to together."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[3] / "recipes" / "paper"))
from invented_grid import SEEDS, write_grid, write_run
from rows import key_of, read_grid, read_row, read_targets

from vesper_lobes.metrics import scores
from vesper_lobes.run_metrics import read_predictions


@pytest.fixture(scope="module")
def targets():
    return read_targets()


def test_every_table_has_its_rows_and_every_figure_is_a_share(targets):
    sizes = {name: len(table["rows"]) for name, table in targets.tables.items()}
    assert sizes == {"III": 4, "IV": 8, "V": 8, "VI": 8, "VII": 8, "VIII": 8}
    assert len(targets.figures) == 30  # rows of the paper, each named once
    values = [v for row in targets.figures.values() for c in row.values() for v in c.values()]
    assert len(values) == 30 * 9 and sum(v is None for v in values) == 4
    assert all(0.1 < v < 0.9 for v in values if v is not None)


@pytest.mark.parametrize(
    ("row", "corpus", "expected"),
    [
        ({"model": "v4"}, "IEMOCAP", (0.684, 0.693, 0.683)),
        ({"model": "large"}, "IEMOCAP", (0.706, None, None)),
        ({"model": "v12"}, "MELD", (0.535, 0.268, 0.480)),
        ({"model": "v12", "head": "shiftformer"}, "CREMA-D", (0.806, 0.809, 0.804)),
        ({"model": "large", "head": "speechformer"}, "MELD", (0.493, 0.281, 0.474)),
        ({"model": "v4", "compression": "random"}, "MELD", (0.438, 0.162, 0.291)),
        ({"model": "v12", "compression": "averaging"}, "IEMOCAP", (0.687, 0.697, 0.679)),
        ({"model": "v4", "masking": "random"}, "CREMA-D", (0.718, 0.721, 0.717)),
        ({"model": "v4", "losses": "hx"}, "MELD", (0.508, 0.240, 0.451)),
        ({"model": "v12", "losses": "lh"}, "IEMOCAP", (0.699, 0.704, 0.701)),
        ({"model": "base", "mix": "last"}, "MELD", (0.481, 0.143, 0.313)),
    ],
)
def test_figures_are_found_by_a_rows_name(targets, row, corpus, expected):
    assert tuple(targets.figures[key_of(row)][corpus].values()) == expected


def test_a_row_is_the_same_row_in_all_tables_and_controls_have_no_figures(targets):
    own = key_of({"model": "v4"})
    tables = [name for name, t in targets.tables.items() if own in [key for key, _ in t["rows"]]]
    assert tables == ["III", "V", "VI", "VII", "VIII"]
    for masking in ("random_matched", "published_code"):
        assert key_of({"model": "v12", "masking": masking}) not in targets.figures


def test_table_two_and_the_heads(targets):
    assert targets.complexity["params"]["v4"] == 63.52
    assert targets.complexity["macs"]["large"] == [116.75, 80.74, 53.72]
    for width, count in targets.head_params["superb"].items():
        assert count == width * 256 + 256 + 256 * 4 + 4


@pytest.mark.parametrize(
    "wrong",
    [{"model": "v5"}, {"head": "superb"}, {"model": "v4", "mask": "guided"}]
    + [{"model": "base", "masking": "guided"}, {"model": "v4", "losses": "x"}],
)
def test_a_row_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError):
        key_of(wrong)


def test_several_runs_are_scored_as_one_with_all_their_seeds(tmp_path):
    whole, parts = tmp_path / "whole", [tmp_path / f"part{i}" for i in range(3)]
    write_run(whole, "EmoDB", "B", 0.6, SEEDS)
    for part, seed in zip(parts, SEEDS, strict=True):
        write_run(part, "EmoDB", "B", 0.6, [seed])
    key, entry = key_of({"model": "v4"}), {"corpus": "EmoDB", "protocol": "B", "encoders": ["a"]}
    one = read_row(tmp_path, key, {**entry, "runs": ["whole"]})
    many = read_row(tmp_path, key, {**entry, "runs": [part.name for part in parts]})
    assert one.metrics["pooled"] == many.metrics["pooled"]
    assert one.metrics["ci"] == many.metrics["ci"]
    assert many.metrics["seeds"] == [1986, 101987, 201988]  # none is counted twice or lost
    assert [len(run) for run in many.runs] == [1, 1, 1] and [len(run) for run in one.runs] == [3]
    assert many.metrics["folds"][0]["epoch"] == 7


def test_equal_seeds_of_several_pretrainings_are_kept_apart(tmp_path):
    for name, noise in (("a", 0), ("b", 50)):
        write_run(tmp_path / name, "EmoDB", "A", 0.6, SEEDS, noise=noise)
    entry = {"corpus": "EmoDB", "protocol": "A", "encoders": ["x", "y"], "runs": ["a", "b"]}
    row = read_row(tmp_path, key_of({"model": "v4"}), entry)
    assert len(row.metrics["seeds"]) == 6 and len(row.metrics["folds"]) == 12
    by_hand = []
    for name in ("a", "b"):
        for folds in read_predictions(tmp_path / name).values():
            classes = row.metrics["classes"]
            number = {label: i for i, label in enumerate(classes)}
            each = [
                scores(t["target"].map(number).array, t["prediction"].map(number).array, 4)["UA"]
                for t in folds.values()
            ]
            by_hand.append(np.mean(each))
    assert row.metrics["mean_of_folds"]["UA"] == pytest.approx(np.mean(by_hand))


def test_a_work_folder_half_done(tmp_path):
    rows = [({"model": "base"}, 0.5, 1), ({"model": "v4"}, 0.6, 3), ({"model": "v12"}, None, 1)]
    grid = read_grid(write_grid(tmp_path, rows))
    assert len(grid.planned) == 6 and len(grid.rows) == 4 and grid.corpora == ["EmoDB", "RAVDESS"]
    assert {key.model for key, *_ in grid.rows} == {"base", "v4"} and not grid.troubles
    row = grid.rows[key_of({"model": "v4"}), "RAVDESS", "B"]
    assert row.metrics["ssl_saw_test_audio"] and len(row.runs) == 3


def test_a_row_that_is_called_done_but_is_gone_is_told_and_the_rest_is_read(tmp_path):
    write_grid(tmp_path, [({"model": "base"}, 0.5, 1), ({"model": "v4"}, 0.6, 1)])
    gone = next(tmp_path.glob("cells/emotion/EmoDB/v4*/*/B/seed1987/fold2/predictions.csv"))
    gone.unlink()
    grid = read_grid(tmp_path)
    assert len(grid.rows) == 3 and len(grid.troubles) == 1
    assert "v4" in grid.troubles[0] and "seed 1987, fold 2" in grid.troubles[0]
    assert str(tmp_path) not in grid.troubles[0]


def test_runs_that_do_not_belong_together_and_a_folder_without_rows(tmp_path):
    write_run(tmp_path / "a", "EmoDB", "B", 0.6, SEEDS)
    write_run(tmp_path / "b", "EmoDB", "A", 0.6, SEEDS)
    entry = {"corpus": "EmoDB", "protocol": "B", "encoders": ["x"], "runs": ["a", "b"]}
    with pytest.raises(ValueError, match="differ in protocol"):
        read_row(tmp_path, key_of({"model": "v4"}), entry)
    with pytest.raises(ValueError, match="rows.json is missing.*reproduce.py"):
        read_grid(tmp_path)
    (tmp_path / "rows.json").write_text(json.dumps({"size": "mini", "rows": []}))
    assert read_grid(tmp_path).rows == {}
