"""Scores against scikit-learn's, and what they do where a class does not occur."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from vesper_lobes.metrics import confusion, ece, per_class_of, scores, scores_of


def drawn(seed=0, size=500, classes=5):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, size)
    predictions = np.where(rng.random(size) < 0.6, targets, rng.integers(0, classes, size))
    return targets, predictions


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_scikit_learns(seed):
    targets, predictions = drawn(seed)
    ours = scores(targets, predictions, 5)
    assert ours["WA"] == pytest.approx(sk.accuracy_score(targets, predictions))
    assert ours["UA"] == pytest.approx(sk.balanced_accuracy_score(targets, predictions))
    assert ours["WF1"] == pytest.approx(sk.f1_score(targets, predictions, average="weighted"))
    assert ours["macroF1"] == pytest.approx(sk.f1_score(targets, predictions, average="macro"))
    ours = confusion(targets, predictions, 5)
    assert np.array_equal(ours, sk.confusion_matrix(targets, predictions))


def test_per_class_figures_are_scikit_learns():
    targets, predictions = drawn()
    theirs = sk.precision_recall_fscore_support(targets, predictions)
    recall, precision, f1, support = per_class_of(confusion(targets, predictions, 5))
    for ours, other in zip((precision, recall, f1, support), theirs, strict=True):
        np.testing.assert_allclose(ours, other)


def test_lists_arrays_and_tensors_give_the_same_plain_floats():
    targets, predictions = drawn()
    from_arrays = scores(targets, predictions, 5)
    assert from_arrays == scores(targets.tolist(), predictions.tolist(), 5)
    assert from_arrays == scores(torch.tensor(targets), torch.tensor(predictions), 5)
    assert all(type(value) is float for value in from_arrays.values())


def test_stacks_are_scored_one_by_one():
    stack = np.stack([confusion(*drawn(seed), 5) for seed in range(3)])
    together = scores_of(stack)
    for i in range(3):
        alone = scores_of(stack[i])
        assert all(together[name][i] == alone[name] for name in alone)


def test_ece_by_hand_and_by_bins():
    confident = np.array([[0.99, 0.01]] * 4 + [[0.61, 0.39]] * 4)
    targets = [0, 0, 0, 0, 0, 0, 1, 1]  # right 4/4 and 2/4
    assert ece(confident, targets) == pytest.approx(0.5 * 0.01 + 0.5 * 0.11)
    assert ece(torch.tensor([[1.0, 0.0]]), [1]) == 1.0


@pytest.mark.parametrize(
    "targets, predictions, message",
    [
        ([], [], "no utterances"),
        ([0, 1], [0], "2 targets"),
        ([0, 3], [0, 0], "3 classes"),
        ([0, -1], [0, 0], "3 classes"),
        ([0.5, 1.0], [0, 1], "integers"),
    ],
)
def test_what_cannot_be_scored_is_refused(targets, predictions, message):
    with pytest.raises(ValueError, match=message):
        scores(targets, predictions, 3)
