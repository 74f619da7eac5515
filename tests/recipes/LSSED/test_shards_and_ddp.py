"""Pretraining from shards and in two processes: the same steps as from a manifest in one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.folder_prepare import prepare_folder
from data_prep.write_shards import write_shards
from vesper_lobes.checkpoints import load_encoder, weights_hash
from vesper_lobes.pretrain_brain import PretrainBrain

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def manifest(speech_folder, tmp_path_factory):
    """Manifest of the invented speech."""
    prepare_folder(speech_folder, tmp_path_factory.mktemp("prep"))
    return str(tmp_path_factory.getbasetemp() / "prep0" / "manifest.csv")


@pytest.fixture(scope="session")
def shards(speech_folder, manifest, tmp_path_factory):
    """`shards(order)`: the same speech in shards of unequal size, files as they are."""

    def written(order):
        out = tmp_path_factory.mktemp(order)
        options = dict(shard_mb=0.2, format="copy", order=order)
        index = write_shards(manifest, str(speech_folder), out, **options)
        assert len({shard["utterances"] for shard in index["shards"]}) > 1
        return out

    return written


@pytest.fixture
def shard_options(pretrain_options, shards):
    """A run of seconds from shuffled shards."""
    del pretrain_options["data_folder"]
    return {**pretrain_options, "shards": shards("shuffled")}


def test_shards_equal_the_manifest(run_recipe, pretrain_options, shards, tmp_path):
    """Same losses to the last bit, training and validation, where neither shuffles."""
    loader = "{batch_size: 4, num_workers: 0, shuffle: False, drop_last: True}"
    options = {**pretrain_options, "train_loader": loader, "num_steps": 6}
    whole = run_recipe("pretrain", "vesper_mini", tmp_path / "files", **options)
    options |= {"data_folder": "", "shards": shards("manifest")}
    rows = run_recipe("pretrain", "vesper_mini", tmp_path / "shards", **options)
    for one, other in zip(whole, rows, strict=True):
        for part in ("train", "valid", "masks"):
            assert one[part] == other[part]
    records = (tmp_path / name / "export/pretraining.json" for name in ("files", "shards"))
    first, second = (json.loads(record.read_text()) for record in records)
    assert first == second
    first, second = (load_encoder(tmp_path / name / "export") for name in ("files", "shards"))
    assert weights_hash(first) == weights_hash(second)


@pytest.fixture
def interrupted(run_recipe, monkeypatch):
    """`interrupted(output_folder, step, **options)`: a run that ends before this step."""

    def run(output_folder, step, **options):
        start, count = PretrainBrain.on_fit_batch_start, [0]

        def counted(self, batch, should_step):
            count[0] += 1
            if count[0] == step:
                raise KeyboardInterrupt
            start(self, batch, should_step)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(PretrainBrain, "on_fit_batch_start", counted)
            run_recipe("pretrain", "vesper_mini", output_folder, **options, ckpt_interval_steps=1)

    return run


def test_an_interrupted_epoch_of_shards_goes_on(run_recipe, shard_options, tmp_path, interrupted):
    options = {**shard_options, "num_steps": 7}
    whole = run_recipe("pretrain", "vesper_mini", tmp_path / "whole", **options)
    interrupted(tmp_path / "cut", 5, **options)  # the second batch of the second epoch
    resumed = run_recipe("pretrain", "vesper_mini", tmp_path / "cut", **options)
    for one, other in zip(whole, resumed, strict=True):
        assert one["train"] == pytest.approx(other["train"], rel=1e-6)
    first, second = (load_encoder(tmp_path / run / "export") for run in ("whole", "cut"))
    assert weights_hash(first) == weights_hash(second)


def test_within_an_epoch_a_step_stays_what_it_is(
    run_recipe, pretrain_options, tmp_path, interrupted
):
    """Utterances of a step may change between epochs alone: a position is counted in steps."""
    options = {**pretrain_options, "num_steps": 7}
    interrupted(tmp_path / "cut", 5, **options)
    other = {**options, "batch_size": 2}
    with pytest.raises(ValueError, match="have 4 utterances; now .* 2 a step.*--batch_size 4"):
        run_recipe("pretrain", "vesper_mini", tmp_path / "cut", **other)
    interrupted(tmp_path / "between", 4, **options)  # validated and saved
    rows = run_recipe("pretrain", "vesper_mini", tmp_path / "between", **other)
    assert [row["optimizer_steps"] for row in rows] == [3, 7]


def test_teachers_and_distillation_take_shards_too(
    run_recipe, teacher_options, shard_options, tmp_path
):
    del teacher_options["data_folder"]
    options = {**teacher_options, "shards": shard_options["shards"], "num_steps": 1}
    assert run_recipe("teacher", "mini_large", tmp_path / "teacher", **options)
    options = {**shard_options, "num_steps": 1, "warmup_steps": 1}
    assert run_recipe("distill", "vesper_mini", tmp_path / "distill", **options)


def test_the_log_tells_what_an_epoch_leaves_out(run_recipe, shard_options, tmp_path):
    run_recipe("pretrain", "vesper_mini", tmp_path / "run", **{**shard_options, "num_steps": 1})
    log = (tmp_path / "run/log.txt").read_text()
    assert "an epoch has 3 steps of 4 utterances; 1 of 13 are left out" in log


def test_unfinished_shards_are_refused(run_recipe, shard_options, tmp_path):
    (tmp_path / "half").mkdir()
    with pytest.raises(ValueError, match="not finished.*write_shards"):
        run_recipe(
            *("pretrain", "vesper_mini", tmp_path / "run"),
            **{**shard_options, "shards": tmp_path / "half"},
        )


def steps_of(options, out, processes, stop_after=-1):
    """Steps and history of a run in a process of its own, or in several under torchrun."""
    options = {**options, "output_folder": out / "run", "device": "cpu", "max_grad_norm": 1e9}
    options["batch_size"] = 4 // processes
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", f"--nproc_per_node={processes}"]
        command += ["--master_port=0", "--standalone"]
        arguments += ["--distributed_backend", "gloo"]
    out.mkdir(exist_ok=True)
    subprocess.run(
        [*command, HERE / "step_losses.py", out / "steps.json", "hparams/vesper_mini.yaml"]
        + arguments,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "STOP_AFTER": str(stop_after),
        },
        check=True,
        timeout=600,
    )
    history = json.loads((out / "run/history.json").read_text())
    return json.loads((out / "steps.json").read_text()), history


@pytest.mark.slow
@pytest.mark.parametrize("source", ["manifest", "shards"])
def test_two_processes_equal_one_with_the_doubled_batch(
    source, pretrain_options, manifest, shards, tmp_path
):
    """Shuffled, no dropout: utterances, losses, and what is logged of an epoch."""
    options = {**pretrain_options, "num_steps": 7, "lr": 0.002, "dropout": 0.0}
    options["manifest"] = manifest
    if source == "shards":
        options |= {"data_folder": "", "manifest": "", "shards": shards("shuffled")}
    one, of_one = steps_of(options, tmp_path / "one", 1)
    two, of_two = steps_of(options, tmp_path / "two", 2)
    assert len(one) == len(two) == 7
    for (names, loss), (others, other) in zip(one, two, strict=True):
        assert names == others and len(names) == 4
        assert other == pytest.approx(loss, rel=1e-5)
    assert len({tuple(names) for names, _ in one}) == 7
    for row, other in zip(of_one, of_two, strict=True):  # nothing counted twice
        for part in ("train", "valid", "masks"):
            assert other[part] == pytest.approx(row[part], rel=1e-5)
        assert other["audio_hours"] == pytest.approx(row["audio_hours"], rel=1e-6)
        assert other["optimizer_steps"] == row["optimizer_steps"]


@pytest.mark.slow
def test_one_process_goes_on_where_two_stopped(pretrain_options, run_recipe, manifest, tmp_path):
    """With the doubled batch: the same utterances, and means of the whole epoch, of both parts."""
    options = {**pretrain_options, "num_steps": 7, "lr": 0.002, "dropout": 0.0}
    options |= {"manifest": manifest, "ckpt_interval_steps": 1}
    steps, rows = steps_of(options, tmp_path / "one", 1)
    part, _ = steps_of(options, tmp_path / "two", 2, stop_after=5)  # in the second epoch
    with pytest.raises(ValueError, match="now 1 process.* --batch_size 4"):
        run_recipe("pretrain", "vesper_mini", tmp_path / "two/run", **{**options, "batch_size": 2})
    rest, others = steps_of(options, tmp_path / "two", 1)
    assert [names for names, _ in part + rest] == [names for names, _ in steps]
    for row, other in zip(rows, others, strict=True):
        for kind in ("train", "valid", "masks"):
            assert other[kind] == pytest.approx(row[kind], rel=1e-5)
        assert other["audio_hours"] == pytest.approx(row["audio_hours"], rel=1e-6)
        assert other["optimizer_steps"] == row["optimizer_steps"]
