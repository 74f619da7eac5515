"""Table IV's heads in the recipe: frames from the disk, resumption, baselines, what is refused."""

import json
from pathlib import Path

import pytest

from vesper_lobes.shiftformer import ShiftFormerHead
from vesper_lobes.speechformer import SpeechFormerHead
from vesper_lobes.step_schedule import StepWarmupCosine


def count(head):
    return sum(parameter.numel() for parameter in head.parameters())


def times(folder, pattern):
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob(pattern)}


@pytest.fixture(scope="module")
def run(launch, encoders, tmp_path_factory):
    """ShiftFormer on the weighted sum, beside an untrained encoder and the teacher."""
    output = tmp_path_factory.mktemp("shiftformer") / "B"
    options = ["--teacher", encoders / "teacher", "--baselines", "[random_init, teacher]"]
    options += ["--head_seeds", "1", "--batch_size", 8]

    def again():
        return launch(output, *options, hparams="shiftformer_mini")

    return output, again(), again


def test_metrics_and_baselines_are_those_of_heads_on_frames(run):
    folder, metrics, _ = run
    assert metrics["n"] == 40 and list(metrics["baselines"]) == ["random_init", "teacher"]
    assert metrics["trainable_params"] == 3 + count(ShiftFormerHead(32, 4))  # 3 states' weights
    weights = json.loads((folder / "run.json").read_text())["layer_weights"]
    assert len(weights) == 3 and sum(weights) == pytest.approx(1)
    assert len(list((folder / "states").glob("frames-*"))) == 3
    assert not (folder / "model").exists()


def test_the_rate_changes_at_every_step(run):
    cell = json.loads((run[0] / "seed1" / "fold1" / "cell.json").read_text())
    schedule = StepWarmupCosine(5e-4, 5e-6, first_lr=5e-7, epochs=2, warmup_epochs=1)
    rates = [row["lr"] for row in cell["history"]]  # of the third and last step of each epoch
    assert rates == pytest.approx([schedule.lr_after(done) for done in (2 / 3, 5 / 3)])


def test_a_repeated_run_encodes_and_trains_nothing(run):
    folder, metrics, again = run
    before = times(folder, "cell.json"), times(folder, "*.npy")
    assert again()["pooled"] == metrics["pooled"]
    assert (times(folder, "cell.json"), times(folder, "*.npy")) == before


def test_an_interrupted_cell_comes_out_the_same(run):
    folder, _, again = run
    lost = folder / "seed1" / "fold3"
    predictions = (lost / "predictions.csv").read_bytes()
    (lost / "cell.json").unlink()
    again()
    assert (lost / "predictions.csv").read_bytes() == predictions


def test_speechformer_on_the_last_state_alone(launch, tmp_path):
    options = ("--baselines", "[]", "--head_seeds", "1", "--mix", "last", "--number_of_epochs", 1)
    metrics = launch(tmp_path, *options, hparams="speechformer_mini")
    assert metrics["n"] == 40
    assert metrics["trainable_params"] == count(SpeechFormerHead(32, 4))
    assert json.loads((tmp_path / "run.json").read_text())["layer_weights"] == []


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [("--export", "model", "--export null"), ("--features", "words", "pooled.*frames")],
)
def test_what_cannot_be_is_refused_before_anything_is_computed(
    option, value, complaint, launch, tmp_path
):
    with pytest.raises(ValueError, match=complaint):
        launch(tmp_path, option, value, hparams="shiftformer_mini")
    assert not (tmp_path / "states").exists()
