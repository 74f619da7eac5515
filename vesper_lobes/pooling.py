"""Pooling over real frames, and the mix of an encoder's states.

SpeechBrain's ``StatisticsPooling`` adds noise even in evaluation and its ``AttentionPooling``
knows no padding; these two are exact and deterministic.
"""

import torch
from torch import nn

from vesper_lobes.lengths import frame_mask

MIX_MODES = ("weighted_sum", "last")


def masked_mean(x, lengths):
    """Mean over each row's real frames.

    Arguments
    ---------
    x : torch.Tensor (B, T, D)
        What lies beyond a row's length, NaN included, changes neither result nor gradient.
    lengths : torch.LongTensor (B,)
        Real frames of each row; a row of none gives zeros.

    Returns
    -------
    torch.Tensor (B, D)
        Same type as ``x``; half precision is summed in float32.

    Example
    -------
    >>> masked_mean(torch.tensor([[[2.0], [4.0], [99.0]]]), torch.tensor([2]))
    tensor([[3.]])
    """
    lengths = lengths.to(x.device)
    padding = ~frame_mask(lengths, x.shape[1]).unsqueeze(-1)  # (B, T, 1)
    total = x.masked_fill(padding, 0).sum(1, dtype=torch.promote_types(x.dtype, torch.float32))
    return (total / lengths.clamp(min=1).unsqueeze(-1)).to(x.dtype)  # (B, D)


class LayerMix(nn.Module):
    """One feature from all L+1 states: their softmax-weighted sum, or the last alone (Table VIII).

    The weights start at zero, so the sum starts as the plain mean; no norm per layer.

    Arguments
    ---------
    num_states : int
        L+1: state 0 (projection + positional conv) and L layers.
    mode : str
        "weighted_sum" or "last" (no parameters).

    Example
    -------
    >>> mix = LayerMix(num_states=5)
    >>> mix(torch.rand(2, 5, 16)).shape  # pooled states (B, L+1, D)
    torch.Size([2, 16])
    >>> mix(tuple(torch.rand(2, 7, 16) for _ in range(5))).shape  # an encoder's states
    torch.Size([2, 7, 16])
    """

    def __init__(self, num_states, mode="weighted_sum"):
        super().__init__()
        if mode not in MIX_MODES:
            raise ValueError(f"layer mix {mode!r} is unknown: choose one of {MIX_MODES}")
        self.num_states = num_states
        self.mode = mode
        if mode == "weighted_sum":
            self.weights = nn.Parameter(torch.zeros(num_states))

    def forward(self, states):
        """Mix the states.

        Arguments
        ---------
        states : torch.Tensor (B, L+1, ..., D) or tuple of L+1 tensors (B, ..., D)

        Returns
        -------
        torch.Tensor (B, ..., D)
        """
        stacked = isinstance(states, torch.Tensor)
        given = states.shape[1] if stacked else len(states)
        if given != self.num_states:
            raise ValueError(f"LayerMix of {self.num_states} states was given {given}")
        if self.mode == "last":
            return states[:, -1] if stacked else states[-1]
        shares = self.weights.softmax(0)
        if stacked and states.dim() == 3 and states.dtype == shares.dtype:
            with torch.autocast(states.device.type, enabled=False):  # as exact as the sum below
                return torch.einsum("l,bld->bd", shares, states)
        states = states.unbind(1) if stacked else states
        return sum(share * state for share, state in zip(shares, states, strict=True))

    def shares(self):
        """Each state's share of the sum, L+1 plain floats that add up to 1 (for reports)."""
        if self.mode == "last":
            return [0.0] * (self.num_states - 1) + [1.0]
        return self.weights.detach().double().softmax(0).tolist()
