"""Published fault 9: the epoch chosen on the test set. Protocol B's choice never sees it."""

import torch

from vesper_lobes.emotion_brain import selection_score
from vesper_lobes.emotion_cells import Fold
from vesper_lobes.metrics import scores


def test_folds_tell_when_the_epoch_is_picked_on_test():
    assert not Fold(1, ["a"], ["b"], ["c"]).selected_on_test
    assert Fold(1, ["a"], ["b"], ["b"]).selected_on_test


def test_a_class_that_is_only_predicted_does_not_lower_the_score_that_selects():
    targets, predictions = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 2])
    values = scores(targets, predictions, num_classes=3)
    assert selection_score(values, "WA+UA") == 0.75 + 0.75  # not (1 + .5 + 0) / 3
