"""The Brain and its data: batches, selection, and what it keeps of an epoch."""

import numpy as np
import pandas as pd
import pytest
import torch

from vesper_lobes.emotion_brain import EmotionBrain, PooledStates, selection_score
from vesper_lobes.emotion_cells import Corpus, Fold, train_cell

CLASSES = ["angry", "happy", "neutral", "sad"]
HPARAMS = "recipes/EmoDB/emotion/hparams/vesper_mini.yaml"


@pytest.fixture
def corpus():
    names = [f"u{i:02d}" for i in range(48)]
    emotions = [CLASSES[i % 4] for i in range(48)]
    speakers = [f"s{i // 8}" for i in range(48)]
    columns = {"ID": names, "emotion": emotions, "speaker": speakers, "dialogue": ""}
    fold = Fold(1, names[:32], names[32:40], names[40:])
    return Corpus(pd.DataFrame(columns), CLASSES, [fold])


@pytest.fixture
def train(corpus, tmp_path, request):
    """``train(states, **overrides)``: one cell; its cell.json and the Brain."""
    path = request.config.rootpath / HPARAMS
    brains = []

    class Kept(EmotionBrain):
        """Lets the test look at the Brain afterwards."""

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            brains.append(self)

    def run(states, **overrides):
        settings = dict(data_folder="x", encoder="x", output_folder=str(tmp_path))
        sizes = dict(num_states=states.shape[1], input_dim=states.shape[2], seed=1)
        overrides = {**settings, **sizes, "number_of_epochs": 3, **overrides}
        arguments = (states, corpus, corpus.folds[0], tmp_path / "cell", "key")
        return train_cell(Kept, path, overrides, {"device": "cpu"}, *arguments), brains[-1]

    return run


def test_batches_are_the_rows_asked_for_from_tensors_and_memmaps(tmp_path):
    states = torch.randn(6, 3, 4)
    np.save(tmp_path / "states.npy", states.numpy())
    on_disk = np.load(tmp_path / "states.npy", mmap_mode="r")
    for source in (states, on_disk):
        batch = PooledStates(source, torch.arange(6), [5, 1, 3]).__getitems__([2, 0])
        assert torch.equal(batch.states, states[[3, 5]])
        assert batch.targets.tolist() == [3, 5] and batch.lengths is None


def test_an_unknown_selection_metric_is_named():
    with pytest.raises(ValueError, match="accuracy"):
        selection_score({"WA": 1.0}, "accuracy")


def test_heads_learn_what_the_states_hold(train, corpus):
    states = 0.3 * torch.randn(48, 3, 16)
    states[torch.arange(48), :, corpus.targets] += 3
    cell, brain = train(states, number_of_epochs=30, lr=0.01)
    assert brain.history[-1]["WA"] == 1.0
    assert brain.history[-1]["train_loss"] < 0.2 < brain.history[0]["train_loss"]
    assert sum(cell["layer_weights"]) == pytest.approx(1, abs=1e-5)


def test_the_epoch_with_the_best_dev_score_is_the_one_evaluated(train):
    states = torch.randn(48, 3, 16)  # nothing to learn: scores go up and down
    cell, brain = train(states, number_of_epochs=12, lr=0.05)
    ranked = [(row["WA"], -row["dev_loss"]) for row in cell["history"]]
    assert cell["best"]["epoch"] == 1 + ranked.index(max(ranked)) != 12
    inputs = brain.modules.layer_mix(states[40:])
    logits = brain.modules.head(inputs)
    assert torch.allclose(logits.softmax(-1), brain.probabilities, atol=1e-6)
    assert (
        int((brain.checkpointer.checkpoints_dir / "CKPT+best/counter.ckpt").read_text())
        == (cell["best"]["epoch"])
    )


def test_the_test_set_has_no_part_in_training_or_selection(train):
    states = torch.randn(48, 3, 16)
    other = states.clone()
    other[40:] = 100 * torch.randn(8, 3, 16)
    first, brain = train(states)
    weights = [p.clone() for p in brain.modules.parameters()]
    second, brain = train(other)
    assert first["history"] == second["history"] and first["best"] == second["best"]
    assert all(map(torch.equal, weights, brain.modules.parameters()))


def test_learning_rates_are_table_is_from_the_first_to_the_last_epoch(train):
    cell, _ = train(torch.randn(48, 3, 16), lr=7e-4, lr_final=7e-6, number_of_epochs=5)
    rates = [row["lr"] for row in cell["history"]]
    assert rates[0] == pytest.approx(7e-4) and rates[-1] == pytest.approx(7e-6)


def test_frames_and_their_pooled_means_give_the_same_logits(train):
    _, brain = train(torch.randn(48, 3, 16))
    brain.modules.eval()
    frames = torch.randn(2, 3, 7, 16)  # (B, L+1, T, D)
    lengths = torch.tensor([7, 4])
    pooled = torch.stack([frames[0].mean(1), frames[1, :, :4].mean(1)])  # (B, L+1, D)
    head, mix = brain.modules.head, brain.modules.layer_mix
    assert torch.allclose(head(mix(frames), lengths), head(mix(pooled)), atol=1e-5)
