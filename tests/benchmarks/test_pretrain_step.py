"""The benchmark of a pretraining step at tiny sizes: it checks equality itself, and tells all."""

import json

import pytest


@pytest.fixture
def pretrain_step(benchmark_script):
    return benchmark_script("pretrain_step")


def test_candidates_agree_and_the_table_is_whole(pretrain_step, tmp_path, capsys):
    out = tmp_path / "step.json"
    pretrain_step.main(["--small", "--rounds", "1", "--json", str(out)])
    result = json.loads(out.read_text())
    names = [row["name"] for row in result["rows"]]
    assert names == ["straightforward", *pretrain_step.TOLERANCES]
    exact = result["relative_differences"]["ours, fp32"]
    assert exact["losses"] < 1e-5 and exact["gradients"] < 1e-4
    sizes = result["store"]["lssed_gb"]
    frames = 49  # of 1 s; int8 adds a float32 scale a dimension, as much as four frames
    assert sizes["int8"] == pytest.approx(sizes["fp16"] / 2 * (frames + 4) / frames)
    errors = result["store"]["errors"]
    assert errors["fp16"]["as they are"]["last"]["max_over_max"] < 1e-3
    # int8 has a scale for each dimension: large ones do not drown the others
    assert errors["int8"]["8 outlier dimensions"]["last"]["rms"] < 0.02
    printed = capsys.readouterr().out
    assert "ratio" in printed and "GB for LSSED" in printed


def test_a_candidate_that_computes_something_else_is_found(pretrain_step, tmp_path, monkeypatch):
    forward = pretrain_step.PretrainBrain.frozen_outputs

    def wrong(self, batch):
        features, lengths, (middle, last) = forward(self, batch)
        return features, lengths, (last, middle)

    monkeypatch.setattr(pretrain_step.PretrainBrain, "frozen_outputs", wrong)
    with pytest.raises(AssertionError, match="ours, fp32"):
        pretrain_step.measure(small=True, rounds=1, batch=2, seconds=1.0)


def test_a_store_pays_by_what_each_round_saves(pretrain_step):
    """A round slow in everything changes nothing; a store that saves nothing never pays."""
    pace = (1.0, 2.0, 1.0)
    times = {
        "filling, fp32": {"all": [3.0 * p for p in pace]},
        "ours, fp32": {"all": [5.0 * p for p in pace]},
        "store, fp32": {"all": [3.0 * p for p in pace]},
        "filling, bf16": {"all": [1.0, 1.0, 1.0]},
        "ours, bf16": {"all": [2.0, 2.0, 2.0]},
        "store, bf16": {"all": [2.0, 3.0, 2.0]},
    }
    assert pretrain_step.break_even(times) == {"fp32": 1.5, "bf16": None}
