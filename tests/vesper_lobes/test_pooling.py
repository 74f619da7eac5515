"""Masked mean and the mix of states."""

import pytest
import torch

from vesper_lobes.pooling import LayerMix, masked_mean


def test_masked_mean_is_each_rows_own_mean():
    x, lengths = torch.randn(3, 9, 4), torch.tensor([9, 1, 5])
    alone = torch.stack([row[:length].mean(0) for row, length in zip(x, lengths, strict=True)])
    torch.testing.assert_close(masked_mean(x, lengths), alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("junk", [1e6, float("nan"), float("inf")])
def test_padding_reaches_neither_result_nor_gradient(junk):
    x, lengths = torch.randn(2, 6, 3), torch.tensor([6, 2])
    expected = masked_mean(x, lengths)
    x[1, 2:] = junk
    x.requires_grad_()
    pooled = masked_mean(x, lengths)
    pooled.sum().backward()
    assert torch.equal(pooled, expected)
    assert torch.equal(x.grad[1, 2:], torch.zeros(4, 3))
    torch.testing.assert_close(x.grad[1, :2], torch.full((2, 3), 0.5))


def test_half_precision_is_summed_in_float32():
    x = torch.full((1, 5000, 2), 1.001, dtype=torch.bfloat16)
    pooled = masked_mean(x, torch.tensor([5000]))
    assert pooled.dtype == torch.bfloat16
    torch.testing.assert_close(pooled, x[:, 0], rtol=1e-2, atol=0)


def test_row_without_frames_is_zero():
    assert torch.equal(masked_mean(torch.ones(1, 3, 2), torch.tensor([0])), torch.zeros(1, 2))


def test_mix_starts_as_the_mean_and_learns_weights():
    states = torch.randn(2, 5, 7, 3)
    mix = LayerMix(5)
    torch.testing.assert_close(mix(states), states.mean(1))
    with torch.no_grad():
        mix.weights.copy_(torch.randn(5))
    expected = torch.einsum("l,bltd->btd", mix.weights.softmax(0), states)
    torch.testing.assert_close(mix(states), expected)
    assert sum(mix.shares()) == pytest.approx(1.0)


def test_tuple_and_tensor_agree():
    states = torch.randn(2, 5, 7, 3)
    for mode in ("weighted_sum", "last"):
        mix = LayerMix(5, mode)
        assert torch.equal(mix(states), mix(tuple(states.unbind(1))))


def test_last_layer_has_no_parameters():
    states = torch.randn(2, 5, 3)
    mix = LayerMix(5, "last")
    assert not list(mix.parameters())
    assert torch.equal(mix(states), states[:, -1])
    assert mix.shares() == [0, 0, 0, 0, 1]


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="unknown"):
        LayerMix(5, "sum")
    with pytest.raises(ValueError, match="given 4"):
        LayerMix(5)(torch.randn(2, 4, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 3, 5, 8)])
def test_a_mix_takes_states_of_any_type_stacked_or_listed(dtype, shape):
    states, mix = torch.randn(shape).to(dtype), LayerMix(3)
    torch.testing.assert_close(mix(states), mix(tuple(states.unbind(1))))


def test_a_mix_of_means_stays_exact_under_autocast():
    states, mix = torch.randn(4, 3, 8), LayerMix(3)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = mix(states)
    torch.testing.assert_close(mixed, states.mean(1))
