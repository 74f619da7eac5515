import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vesper_lobes.checkpoints import load_encoder, weights_hash
from vesper_lobes.pretrain_brain import PretrainBrain

ROOT = Path(__file__).resolve().parents[3]


def test_a_run_trains_logs_and_exports(run_recipe, pretrain_options, tmp_path):
    out = tmp_path / "run"
    rows = run_recipe("pretrain", "vesper_mini", out, **pretrain_options, precision="bf16")
    last = rows[-1]
    assert last["optimizer_steps"] == 8
    assert {"l", "h", "x", "loss"} == set(last["train"]) == set(last["valid"])
    assert all(math.isfinite(value) for value in last["train"].values())
    assert last["hours_per_hour"] > 0
    assert 0 < last["masks"]["phoneme"] < 1 and 0 < last["masks"]["word_of_high"] <= 1
    assert "masked_phoneme_of_high" in (out / "train_log.txt").read_text()
    assert list((out / "tensorboard").iterdir())
    teacher, student = load_encoder(pretrain_options["teacher"]), load_encoder(out / "export")
    assert student.num_layers == 2
    frozen = teacher.feature_extractor.state_dict()
    for name, tensor in student.feature_extractor.state_dict().items():
        assert torch.equal(tensor, frozen[name])
    record = json.loads((out / "export/pretraining.json").read_text())
    assert record["compression"].startswith("extraction: 2 of 4 layers <- 1, 3")


def test_losses_fall(run_recipe, pretrain_options, tmp_path):
    options = {**pretrain_options, "num_steps": 60, "lr": 0.003}
    rows = run_recipe("pretrain", "vesper_mini", tmp_path / "run", **options)
    for name in ("l", "h", "x"):
        assert rows[-1]["train"][name] < 0.9 * rows[0]["train"][name]
        assert rows[-1]["valid"][name] < rows[0]["valid"][name]


def test_interrupted_equals_uninterrupted(run_recipe, pretrain_options, tmp_path, monkeypatch):
    """With dropout in the student, which only keyed seeds can repeat."""
    options = {**pretrain_options, "dropout": 0.2}
    whole = run_recipe("pretrain", "vesper_mini", tmp_path / "whole", **options)
    start, count = PretrainBrain.on_fit_batch_start, [0]

    def counted(self, batch, should_step):
        count[0] += 1
        if count[0] == 6:  # the third batch of the second epoch
            raise KeyboardInterrupt
        start(self, batch, should_step)

    monkeypatch.setattr(PretrainBrain, "on_fit_batch_start", counted)
    with pytest.raises(KeyboardInterrupt):
        run_recipe("pretrain", "vesper_mini", tmp_path / "cut", **options, ckpt_interval_steps=1)
    monkeypatch.setattr(PretrainBrain, "on_fit_batch_start", start)
    resumed = run_recipe("pretrain", "vesper_mini", tmp_path / "cut", **options)
    for one, other in zip(whole, resumed, strict=True):
        assert one["train"] == pytest.approx(other["train"], rel=1e-6)
        assert one["masks"] == other["masks"]
        assert one["audio_hours"] == pytest.approx(other["audio_hours"])
    first, second = (load_encoder(tmp_path / run / "export") for run in ("whole", "cut"))
    assert weights_hash(first) == weights_hash(second)


def test_without_a_teacher_the_error_names_the_command(run_recipe, pretrain_options, tmp_path):
    del pretrain_options["teacher"]
    with pytest.raises(ValueError, match="recipes/LSSED/teacher.*mini_large.yaml"):
        run_recipe("pretrain", "vesper_mini", tmp_path / "run", **pretrain_options)


def test_table_v_and_vi_and_vii_are_switches(run_recipe, pretrain_options, tmp_path):
    options = {**pretrain_options, "num_steps": 1, "valid_share": 0.0}
    options |= {"method": "random", "masking": "random_matched", "grad_accumulation_factor": 2}
    options |= {"loss_weights": "{l: 0.0, h: 0.1, x: 1.0}", "num_workers": 1, "fixed_crops": True}
    rows = run_recipe("pretrain", "vesper_mini", tmp_path / "run", **options)
    assert rows[-1]["valid"] == {} and rows[-1]["train"]["l"] == 0.0
    student, teacher = load_encoder(tmp_path / "run/export"), load_encoder(options["teacher"])
    theirs = teacher.state_dict()["encoder.layers.0.attention.q_proj.weight"]
    assert not torch.equal(student.state_dict()["encoder.layers.0.attention.q_proj.weight"], theirs)


def test_a_store_takes_the_place_of_the_teacher(run_recipe, pretrain_options, tmp_path):
    options = {**pretrain_options, "num_steps": 4, "fixed_crops": True, "crop_seed": 7}
    plain = run_recipe("pretrain", "vesper_mini", tmp_path / "plain", **options)
    options["target_store"] = tmp_path / "store"
    stored = run_recipe("pretrain", "vesper_mini", tmp_path / "stored", **options)
    for ours, theirs in zip(stored, plain, strict=True):
        for name in ("loss", "l", "h", "x"):  # fp16
            assert ours["train"][name] == pytest.approx(theirs["train"][name], rel=2e-3)
        assert ours["valid"] == pytest.approx(theirs["valid"], rel=2e-3)
        assert ours["masks"] == theirs["masks"]
    shards = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.bin")}
    again = run_recipe("pretrain", "vesper_mini", tmp_path / "again", **{**options, "seed": 5})
    assert again[-1]["train"]["loss"] != stored[-1]["train"]["loss"]
    assert shards == {p: p.stat().st_mtime_ns for p in (tmp_path / "store").rglob("*.bin")}


def test_a_store_wants_fixed_crops_and_the_teachers_front_end(
    run_recipe, pretrain_options, tmp_path
):
    options = {**pretrain_options, "num_steps": 1, "target_store": tmp_path / "store"}
    with pytest.raises(ValueError, match="--fixed_crops True"):
        run_recipe("pretrain", "vesper_mini", tmp_path / "moving", **options)
    options |= {"fixed_crops": True, "method": "random", "random_cnn": True}
    with pytest.raises(ValueError, match="leave out --target_store"):
        run_recipe("pretrain", "vesper_mini", tmp_path / "other", **options)


def test_a_valid_manifest_replaces_the_held_out_share(
    run_recipe, pretrain_options, tmp_path, speech_folder
):
    from data_prep.manifest import read_manifest, write_manifest
    from data_prep.speech_sources import prepare_speech

    prepare_speech(tmp_path / "prep", speech_folder)
    rows = read_manifest(tmp_path / "prep/source0/manifest.csv")
    write_manifest(rows[:12], tmp_path / "train.csv")
    write_manifest(rows[12:], tmp_path / "valid.csv")
    options = {**pretrain_options, "num_steps": 1}
    options |= {"manifest": tmp_path / "train.csv", "valid_manifest": tmp_path / "valid.csv"}
    run_recipe("pretrain", "vesper_mini", tmp_path / "run", **options)
    record = json.loads((tmp_path / "run/export/pretraining.json").read_text())
    assert record["utterances"] == 14


@pytest.mark.slow
def test_two_processes(pretrain_options, tmp_path):
    """DDP by torchrun and gloo, as a user launches it, from the recipe's folder."""
    out = tmp_path / "run"
    options = {**pretrain_options, "output_folder": out, "distributed_backend": "gloo"}
    options |= {"num_steps": 3, "batch_size": 2, "device": "cpu", "ckpt_interval_steps": 1}
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    launcher += ["--master_port=0", "--standalone"]
    subprocess.run(
        [*launcher, "train.py", "hparams/vesper_mini.yaml", *arguments],
        cwd=ROOT / "recipes/LSSED/pretrain",
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=300,
    )
    row = json.loads((out / "history.json").read_text())[-1]
    assert row["optimizer_steps"] == 3 and math.isfinite(row["train"]["loss"])
    assert load_encoder(out / "export").num_layers == 2
