"""The learning-rate curve of Table I, and a checkpoint's round trip."""

import logging
import math

import pytest
from speechbrain.utils.checkpoints import Checkpointer

from vesper_lobes.scheduler import WarmupCosine

PRETRAINING = dict(lr=5e-4, min_lr=5e-6, epochs=100, warmup_epochs=5)
FINE_TUNING = dict(lr=7e-4, min_lr=7e-6, epochs=50)


def test_pretraining_rates_of_table_i():
    scheduler = WarmupCosine(**PRETRAINING)
    warmup = [scheduler.lr_at(epoch) for epoch in range(1, 6)]
    assert warmup == pytest.approx([1e-4, 2e-4, 3e-4, 4e-4, 5e-4], rel=1e-12)
    assert scheduler.lr_at(5) == 5e-4
    assert scheduler.lr_at(6) == pytest.approx(5e-6 + 4.95e-4 * (1 + math.cos(math.pi / 95)) / 2)
    assert scheduler.lr_at(6) == pytest.approx(4.99865e-4, rel=1e-6)
    assert scheduler.lr_at(100) == 5e-6
    assert scheduler.lr_at(130) == 5e-6
    curve = [scheduler.lr_at(epoch) for epoch in range(5, 101)]
    assert curve == sorted(curve, reverse=True)


def test_fine_tuning_rates_of_table_i():
    scheduler = WarmupCosine(**FINE_TUNING)
    assert scheduler.lr_at(1) == 7e-4
    assert scheduler.lr_at(50) == 7e-6
    assert scheduler.lr_at(2) < 7e-4


def test_called_like_speechbrains_schedulers():
    scheduler = WarmupCosine(**PRETRAINING)
    old = scheduler.lr_at(1)
    for epoch in range(1, 101):
        was, new = scheduler(epoch)
        assert was == old and type(new) is float
        old = new
    assert scheduler(0) == (1e-4, 1e-4)


@pytest.mark.parametrize("epochs, warmup", [(1, 0), (1, 1), (2, 1), (2, 2)])
def test_short_runs_stay_within_bounds(epochs, warmup):
    scheduler = WarmupCosine(1.0, 0.1, epochs, warmup)
    assert all(0.1 <= scheduler.lr_at(epoch) <= 1.0 for epoch in range(0, 5))
    assert scheduler.lr_at(max(warmup, 1)) == 1.0


@pytest.mark.parametrize("lr, min_lr, epochs, warmup", [(1, 2, 5, 0), (1, 0, 5, 6), (1, 0, 0, 0)])
def test_impossible_settings_are_refused(lr, min_lr, epochs, warmup):
    with pytest.raises(ValueError):
        WarmupCosine(lr, min_lr, epochs, warmup)


def test_checkpoint_round_trip(tmp_path, caplog):
    scheduler = WarmupCosine(**PRETRAINING)
    scheduler(37)
    Checkpointer(tmp_path, {"scheduler": scheduler}).save_checkpoint()
    resumed = WarmupCosine(**PRETRAINING)
    with caplog.at_level(logging.WARNING):
        Checkpointer(tmp_path, {"scheduler": resumed}).recover_if_possible()
    assert vars(resumed) == vars(scheduler)
    assert "differ" not in caplog.text
    longer = WarmupCosine(**{**PRETRAINING, "epochs": 200})
    with caplog.at_level(logging.WARNING):
        Checkpointer(tmp_path, {"scheduler": longer}).recover_if_possible()
    assert longer.epochs == 200 and "'epochs': 100" in caplog.text
