"""The per-step schedule's ends, its rise and its fall."""

import pytest

from vesper_lobes.step_schedule import StepWarmupCosine


def test_ends_rise_and_fall():
    schedule = StepWarmupCosine(5e-4, 5e-6, first_lr=5e-7, epochs=100, warmup_epochs=5)
    rates = [schedule.lr_after(step / 20) for step in range(2001)]
    assert rates[0] == 5e-7 and max(rates) == rates[100] == 5e-4 and rates[-1] == 5e-6
    assert rates[:101] == sorted(rates[:101]) and rates[100:] == sorted(rates[100:], reverse=True)
    assert schedule.lr_after(200) == 5e-6


def test_without_warm_up_and_with_nothing_else():
    assert StepWarmupCosine(1.0, 0.0, epochs=2).lr_after(0) == 1.0
    assert StepWarmupCosine(1.0, 0.0, epochs=2, warmup_epochs=2).lr_after(1) == 0.5


@pytest.mark.parametrize("wrong", [{"min_lr": 2.0}, {"first_lr": 2.0}, {"warmup_epochs": 9}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError):
        StepWarmupCosine(**{"lr": 1.0, "min_lr": 0.0, "epochs": 5, **wrong})
