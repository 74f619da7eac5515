"""8-bit linear layers: close, a quarter of the memory, independent of the batch, never saved."""

import copy

import pytest
import torch
from torch import nn

from vesper_lobes.encoder import Encoder
from vesper_lobes.int8 import Int8Linear, megabytes, quantize_int8


@pytest.fixture
def encoder(tiny_config):
    encoder = Encoder(tiny_config(hidden_size=64, intermediate_size=128)).eval()
    with torch.no_grad():
        for name, parameter in encoder.encoder.layers.named_parameters():
            if parameter.dim() == 2 and "rel" not in name:
                parameter.mul_(5)
    return encoder


def states(encoder, *args):
    with torch.no_grad():
        return encoder(*args).states


def error(a, b):
    return ((a.float() - b).norm() / b.norm()).item()


def test_one_layer_against_its_definition():
    """Integers of weight and input, multiplied exactly, scaled back."""
    linear, x = nn.Linear(32, 5), torch.randn(7, 32)
    weight = linear.weight.detach()
    scale = weight.abs().amax(1, keepdim=True) / 127
    rounded = (weight / scale).round() * scale
    step = (x.max().clamp(min=0) - x.min().clamp(max=0)) / 255
    expected = (x / step).round() * step @ rounded.T + linear.bias.detach()
    quantized = Int8Linear(linear)
    if quantized.reduce_range:
        pytest.skip("this processor multiplies 7-bit inputs")
    # the input's zero point is rounded too: at most half a step of input, for every weight
    assert (quantized(x) - expected).abs().max() <= step * rounded.abs().sum(1).max()
    assert error(quantized(x), linear(x).detach()) < 0.02


def test_states_stay_close_and_weights_shrink(encoder):
    wavs = torch.randn(2, 16000)
    small = quantize_int8(encoder)
    kinds = {type(m) for m in small.encoder.layers.modules()}
    assert Int8Linear in kinds
    exact = states(encoder, wavs)
    for a, b in zip(states(small, wavs), exact, strict=True):
        assert 0 < error(a, b) < 0.03
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for a, b in zip(states(small, wavs), exact, strict=True):
            assert a.dtype == torch.bfloat16 and error(a, b) < 0.04
    linears = sum(
        m.weight.numel()
        for n, m in encoder.named_modules()
        if type(m) is nn.Linear and "gru" not in n
    )
    biases = sum(
        m.bias.numel()
        for n, m in encoder.named_modules()
        if type(m) is nn.Linear and "gru" not in n
    )
    assert megabytes(encoder) - megabytes(small) == pytest.approx((3 * linears + 4 * biases) / 1e6)


def test_an_answer_depends_on_the_batch_by_a_rounding_step_at_most(encoder):
    small, lengths = quantize_int8(encoder), [16000, 400, 9600]
    rows = [torch.randn(n) * (1 + i) for i, n in enumerate(lengths)]
    batch = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    together = states(small, batch, torch.tensor(lengths) / 16000)
    for index, wav in enumerate(rows):
        for a, b in zip(together, states(small, wav[None]), strict=True):
            assert (a[index, : b.shape[1]] - b[0]).abs().max() <= 1e-2 * b.abs().max()


def test_original_and_copies_are_left_alone(encoder):
    wavs = torch.randn(1, 8000)
    before = states(encoder, wavs)[-1]
    small = quantize_int8(encoder)
    answer = states(small, wavs)[-1]
    twin = copy.deepcopy(small)
    del small
    assert torch.equal(states(twin, wavs)[-1], answer)
    assert torch.equal(states(encoder, wavs)[-1], before)
    assert not any(p.requires_grad for p in twin.parameters()) and not twin.training


def test_it_cannot_be_saved_half(encoder):
    with pytest.raises(ValueError, match="save or hash the original"):
        quantize_int8(encoder).state_dict()


def test_it_starts_from_float32(encoder):
    with pytest.raises(ValueError, match="bfloat16"):
        quantize_int8(encoder.bfloat16())
