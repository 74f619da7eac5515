"""Losses against an independent computation in numpy, float64."""

from math import erf, sqrt
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from no_waiting import NoWaiting

from vesper_lobes.losses import VesperLosses, masked_mse
from vesper_lobes.predictors import Predictor

B, T, D, N = 3, 11, 8, 4


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)

    def randn():
        return torch.randn(B, T, D, generator=generator)

    states = tuple(randn().requires_grad_() for _ in range(N + 1))
    return SimpleNamespace(
        states=states,
        lengths=torch.tensor([11, 7, 4]),
        targets=(randn(), randn()),
        masks=SimpleNamespace(
            phoneme=torch.rand(B, T, generator=generator) < 0.5,
            word=torch.rand(B, T, generator=generator) < 0.5,
        ),
    )


def run(losses, batch):
    return losses(batch.states, batch.lengths, batch.targets, batch.masks)


def reference_predictor(predictor, x):
    weights = {k: v.detach().double().numpy() for k, v in predictor.state_dict().items()}
    x = x.detach().double().numpy()
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    x = x @ weights["down.weight"].T + weights["down.bias"]
    x = x * 0.5 * (1 + np.vectorize(erf)(x / sqrt(2)))
    return x @ weights["up.weight"].T + weights["up.bias"]


def reference_loss(predictor, state, target, mask, lengths, reduction):
    """Frame by frame, as eq. 14-16 read."""
    prediction = reference_predictor(predictor, state)
    target = target.double().numpy()
    errors = [
        np.mean((prediction[b, t] - target[b, t]) ** 2)
        for b in range(B)
        for t in range(int(lengths[b]))
        if mask[b, t]
    ]
    return np.sum(errors) if reduction == "sum_frames" else np.mean(errors)


@pytest.mark.parametrize("reduction", ["mean", "sum_frames"])
def test_equals_the_equations(batch, reduction):
    losses = VesperLosses(D, reduction=reduction)
    result = run(losses, batch)
    every = torch.ones(B, T, dtype=torch.bool)
    expected = {}
    for name, state, target, mask in (
        ("l", batch.states[2], batch.targets[0], batch.masks.phoneme),
        ("h", batch.states[4], batch.targets[1], batch.masks.word),
        ("x", batch.states[4], batch.targets[0], every),
    ):
        predictor = losses.predictors[name]
        expected[name] = reference_loss(predictor, state, target, mask, batch.lengths, reduction)
    expected["total"] = expected["l"] + 0.1 * expected["h"] + expected["x"]
    assert {k: v.item() for k, v in result.items()} == pytest.approx(expected, rel=1e-5)


def test_predictor_has_the_papers_size():
    assert sum(p.numel() for p in Predictor(1024).parameters()) == 1_050_112  # 1.050 M
    assert sum(p.numel() for p in VesperLosses(1024).parameters()) == 3 * 1_050_112


def test_gradients_equal_those_of_a_masked_selection(batch):
    losses = VesperLosses(D)
    real = torch.arange(T) < batch.lengths.unsqueeze(1)
    tasks = {
        "l": (batch.states[2], batch.targets[0], batch.masks.phoneme & real, 1.0),
        "h": (batch.states[4], batch.targets[1], batch.masks.word & real, 0.1),
        "x": (batch.states[4], batch.targets[0], real, 1.0),
    }
    parameters = [*batch.states[2:5:2], *losses.parameters()]
    selected = sum(
        weight * torch.nn.functional.mse_loss(losses.predictors[name](state[mask]), target[mask])
        for name, (state, target, mask, weight) in tasks.items()
    )
    expected = torch.autograd.grad(selected, parameters)
    found = torch.autograd.grad(run(losses, batch)["total"], parameters)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("off", ["l", "h", "x", "lh", "lx", "hx"])
def test_a_loss_that_is_off_has_no_predictor(batch, off):
    losses = VesperLosses(D, {name: 0 for name in off})
    assert set(losses.predictors) == set("lhx") - set(off)
    result = run(losses, batch)
    assert all(result[name] == 0 for name in off)
    result["total"].backward()
    assert all(parameter.grad is not None for parameter in losses.parameters())
    total = result["l"] + 0.1 * result["h"] + result["x"]
    torch.testing.assert_close(result["total"], total)


def test_a_row_without_masked_frames_contributes_nothing(batch):
    batch.masks.phoneme[1] = False
    losses = VesperLosses(D, {"h": 0, "x": 0})
    both = run(losses, batch)["l"]
    keep = torch.tensor([0, 2])
    alone = SimpleNamespace(
        states=tuple(state[keep] for state in batch.states),
        lengths=batch.lengths[keep],
        targets=tuple(target[keep] for target in batch.targets),
        masks=SimpleNamespace(phoneme=batch.masks.phoneme[keep], word=batch.masks.word[keep]),
    )
    torch.testing.assert_close(both, run(losses, alone)["l"])


@pytest.mark.parametrize("reduction", ["mean", "sum_frames"])
def test_nothing_masked_gives_zero_with_gradients(batch, reduction):
    batch.masks.phoneme[:], batch.masks.word[:] = False, False
    losses = VesperLosses(D, {"x": 0}, reduction)
    result = run(losses, batch)
    assert result["total"] == 0
    result["total"].backward()
    assert all((parameter.grad == 0).all() for parameter in losses.parameters())


def test_losses_are_float32_under_autocast(batch):
    losses = VesperLosses(D)
    exact = run(losses, batch)["total"]
    with torch.autocast("cpu", torch.bfloat16):
        half = run(losses, batch)
    assert all(value.dtype == torch.float32 for value in half.values())
    torch.testing.assert_close(half["total"], exact, rtol=2e-2, atol=0)
    half["total"].backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in losses.parameters())


def test_half_precision_errors_are_summed_in_float32():
    """bfloat16 counts by 2s from 256 on: summed in it, 1001 ones would not give 1001."""
    ones, every = torch.ones(1, 1001, 2).bfloat16(), torch.ones(1, 1001, dtype=torch.bool)
    assert masked_mse(ones, 0 * ones, every, "sum_frames") == 1001
    assert masked_mse(ones, 0 * ones, every).dtype == torch.float32


def test_inputs_stay_as_they_were(batch):
    tensors = [*batch.states, *batch.targets, batch.masks.phoneme, batch.masks.word]
    before = [tensor.detach().clone() for tensor in tensors]
    batch.targets[0].requires_grad_()
    run(VesperLosses(D), batch)["total"].backward()
    assert all(a.equal(b) for a, b in zip(tensors, before, strict=True))
    assert batch.targets[0].grad is None  # targets are constants


def test_nothing_waits_for_the_device(batch):
    losses = VesperLosses(D)
    with NoWaiting():
        loss = run(losses, batch)["total"]
        loss.backward()
        with pytest.raises(AssertionError, match="waits for the device"):
            float(loss.detach())  # what is looked for would be seen
    assert all(p.grad.abs().sum() > 0 for p in losses.parameters())


def test_shapes_must_agree(batch):
    with pytest.raises(ValueError, match="differ"):
        masked_mse(torch.zeros(1, 4, 2), torch.zeros(1, 5, 2), torch.ones(1, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="even number of layers"):
        VesperLosses(D)(batch.states[:4], batch.lengths, batch.targets, batch.masks)


@pytest.mark.parametrize(
    "wrong",
    [{"weights": {"y": 1}}, {"weights": {"l": -1}}, {"weights": dict(l=0, h=0, x=0)}]
    + [{"reduction": "sum"}, {"dim": 7}],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError):
        VesperLosses(**{"dim": 8, **wrong})
