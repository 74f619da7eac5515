"""The loss over all frames must not count padding.

The published code counts padded frames of L_x with zero targets, a fifth of a batch of natural
lengths, and so teaches the student to predict zeros.
"""

from types import SimpleNamespace

import pytest
import torch

from vesper_lobes.losses import VesperLosses


def losses_and_gradients(losses, states, lengths, targets, masks):
    states = tuple(state.clone().requires_grad_() for state in states)
    losses.zero_grad()
    result = losses(states, lengths, targets, masks)
    result["total"].backward()
    gradients = [parameter.grad.clone() for parameter in losses.parameters()]
    return {k: v.detach() for k, v in result.items()}, gradients, states[-1].grad


@pytest.mark.parametrize("junk", [0.0, 1e6, float("nan"), float("inf")])
def test_what_stands_in_the_padding_has_no_say(junk):
    losses = VesperLosses(16)
    lengths = torch.tensor([9, 4, 6])
    padding = torch.arange(12) >= lengths.unsqueeze(1)  # three frames more than the longest row
    masks = SimpleNamespace(phoneme=torch.rand(3, 12) < 0.5, word=torch.rand(3, 12) < 0.5)
    states = tuple(torch.randn(3, 12, 16) for _ in range(3))
    targets = torch.randn(3, 12, 16), torch.randn(3, 12, 16)
    filled = [
        tuple(tensor.masked_fill(padding.unsqueeze(-1), junk) for tensor in group)
        for group in (states, targets)
    ]
    cut = [tuple(tensor[:, :9] for tensor in group) for group in (states, targets)]
    cut_masks = SimpleNamespace(phoneme=masks.phoneme[:, :9], word=masks.word[:, :9])
    found, gradients, inner = losses_and_gradients(losses, filled[0], lengths, filled[1], masks)
    want, wanted, _ = losses_and_gradients(losses, cut[0], lengths, cut[1], cut_masks)
    for name in want:
        torch.testing.assert_close(found[name], want[name])
    for a, b in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(a, b)
    assert (inner[padding] == 0).all()
