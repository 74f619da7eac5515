import json
import math

import pytest
import torch

from vesper_lobes.checkpoints import load_encoder, weights_hash
from vesper_lobes.distill_brain import DistillBrain


@pytest.fixture
def distill_options(pretrain_options):
    """A distillation run of seconds."""
    return {**pretrain_options, "num_outputs": 64, "tau": 1.0}


def test_a_run_distils_and_pretraining_starts_from_it(
    run_recipe, distill_options, pretrain_options, tmp_path
):
    rows = run_recipe("distill", "vesper_mini", tmp_path / "distil", **distill_options)
    assert rows[-1]["optimizer_steps"] == 8
    assert {"loss", "entropy", "error"} == set(rows[-1]["train"]) == set(rows[-1]["valid"])
    assert all(math.isfinite(value) for value in rows[-1]["train"].values())
    export = tmp_path / "distil/export"
    record = json.loads((export / "pretraining.json").read_text())
    assert record["compression"] == "distillation (ours): 2 layers" and record["tau"] == 1.0
    student, teacher = load_encoder(export), load_encoder(distill_options["teacher"])
    frozen = teacher.feature_extractor.state_dict()
    own = student.feature_extractor.state_dict()
    assert all(torch.equal(own[name], frozen[name]) for name in frozen)

    (export / "pretraining.json").write_text(json.dumps({"speakers": {"Elsewhere": ["9"]}}))
    options = {**pretrain_options, "method": "distillation", "distilled": export}
    options |= {"lr": 0.0, "min_lr": 0.0, "num_steps": 1, "weight_decay": 0.0}
    run_recipe("pretrain", "vesper_mini", tmp_path / "run", **options)
    same = load_encoder(tmp_path / "run/export").state_dict()
    assert all(torch.equal(same[name], t) for name, t in student.state_dict().items())
    record = json.loads((tmp_path / "run/export/pretraining.json").read_text())
    assert record["compression"].startswith("distillation (ours): 2 layers")
    assert record["speakers"]["Elsewhere"] == ["9"]  # heard in distillation is heard


def test_the_student_comes_nearer_to_its_teacher(run_recipe, distill_options, tmp_path):
    options = {**distill_options, "num_steps": 60, "lr": 0.005}
    rows = run_recipe("distill", "vesper_mini", tmp_path / "run", **options)
    assert rows[-1]["train"]["loss"] < 0.5 * rows[0]["train"]["loss"]
    assert rows[-1]["valid"]["error"] < rows[0]["valid"]["error"]


def test_interrupted_equals_uninterrupted(run_recipe, distill_options, tmp_path, monkeypatch):
    options = {**distill_options, "dropout": 0.2}
    whole = run_recipe("distill", "vesper_mini", tmp_path / "whole", **options)
    start, count = DistillBrain.on_fit_batch_start, [0]

    def counted(self, batch, should_step):
        count[0] += 1
        if count[0] == 6:  # the third batch of the second epoch
            raise KeyboardInterrupt
        start(self, batch, should_step)

    monkeypatch.setattr(DistillBrain, "on_fit_batch_start", counted)
    with pytest.raises(KeyboardInterrupt):
        run_recipe("distill", "vesper_mini", tmp_path / "cut", **options, ckpt_interval_steps=1)
    monkeypatch.setattr(DistillBrain, "on_fit_batch_start", start)
    resumed = run_recipe("distill", "vesper_mini", tmp_path / "cut", **options)
    for one, other in zip(whole, resumed, strict=True):
        assert one["train"] == pytest.approx(other["train"], rel=1e-6)
    first, second = (load_encoder(tmp_path / run / "export") for run in ("whole", "cut"))
    assert weights_hash(first) == weights_hash(second)


def test_a_store_of_targets_changes_nothing_but_rounding(run_recipe, distill_options, tmp_path):
    options = {**distill_options, "fixed_crops": True, "num_steps": 3}
    plain = run_recipe("distill", "vesper_mini", tmp_path / "plain", **options)
    options["target_store"] = tmp_path / "store"
    stored = run_recipe("distill", "vesper_mini", tmp_path / "stored", **options)
    assert stored[-1]["train"]["loss"] == pytest.approx(plain[-1]["train"]["loss"], rel=0.01)
    filled = sorted((tmp_path / "store").rglob("*.bin"))
    pretrain = {key: value for key, value in options.items() if key not in ("tau", "num_outputs")}
    run_recipe("pretrain", "vesper_mini", tmp_path / "pretrain", **pretrain)
    assert sorted((tmp_path / "store").rglob("*.bin")) == filled  # one store serves both recipes


def test_a_temperature_that_tells_nothing_is_warned_of(run_recipe, distill_options, tmp_path):
    options = {**distill_options, "num_steps": 1, "tau": 0.001}
    run_recipe("distill", "vesper_mini", tmp_path / "run", **options)
    assert "Give a larger --tau" in (tmp_path / "run/log.txt").read_text()


def test_without_a_distilled_student_the_error_names_the_command(
    run_recipe, pretrain_options, tmp_path
):
    options = {**pretrain_options, "method": "distillation"}
    with pytest.raises(ValueError, match="recipes/LSSED/distill && python train.py.*--distilled"):
        run_recipe("pretrain", "vesper_mini", tmp_path / "run", **options)
