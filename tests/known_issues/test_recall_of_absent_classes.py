"""The published code's macro recall counts classes that are only predicted, so one stray prediction
of a class the test set lacks lowers the score by a whole class's share."""

import pytest

from vesper_lobes.metrics import scores


def test_only_classes_among_targets_count():
    targets, predictions = [0, 0, 1, 1], [0, 0, 1, 2]
    found = scores(targets, predictions, 4)
    assert found["UA"] == pytest.approx(0.75)  # (1 + 1/2) / 2, not / 3
    assert found["macroF1"] == pytest.approx((1 + 2 / 3) / 2)
