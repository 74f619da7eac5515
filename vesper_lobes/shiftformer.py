"""ShiftFormer: a transformer whose attention is a shift of channels in time (Table IV).

Shen et al., "Mingling or misalignment? Temporal shift for speech emotion recognition with
pre-trained representations", ICASSP 2023. Written from the description; lengths are ours: a shift
draws zeros from beyond an utterance's end, and the mean counts real frames only.
"""

import torch
import torch.nn.functional as F
from torch import nn

from vesper_lobes.lengths import frame_mask
from vesper_lobes.packing import Packing
from vesper_lobes.pooling import masked_mean


class ShiftFormerHead(nn.Module):
    """Feature masking (training only), shift blocks, mean over real frames, Linear.

    9,451,780 parameters at 768 inputs and 4 classes, 16,796,676 at 1024.

    Arguments
    ---------
    input_dim : int
        D of the features.
    num_classes : int
    num_blocks : int
        Shift blocks (2).
    time_prob, time_span, time_min : float, int, int
        Spans of frames replaced by a learned vector: so large a share of an utterance, before
        overlap, in spans so long, and at least so many spans (.08, 15, 2).
    channel_prob, channel_span, channel_min : float, int, int
        The same for channels, which are zeroed (.05, 64, 1).

    Example
    -------
    >>> head = ShiftFormerHead(input_dim=16, num_classes=4).eval()
    >>> head(torch.rand(2, 7, 16), torch.tensor([7, 3])).shape
    torch.Size([2, 4])
    """

    def __init__(
        self,
        input_dim,
        num_classes,
        num_blocks=2,
        time_prob=0.08,
        time_span=15,
        time_min=2,
        channel_prob=0.05,
        channel_span=64,
        channel_min=1,
    ):
        super().__init__()
        self.time_masking = (time_prob, time_span, time_min)
        self.channel_masking = (channel_prob, channel_span, channel_min)
        self.mask_vector = nn.Parameter(torch.empty(input_dim).uniform_())  # as wav2vec 2.0's
        self.blocks = nn.ModuleList(ShiftBlock(input_dim) for _ in range(num_blocks))
        self.classifier = nn.Linear(input_dim, num_classes)

    def forward(self, x, lengths=None):
        """Logits of each row.

        Arguments
        ---------
        x : torch.Tensor (B, T, D)
            What lies beyond a row's length counts for nothing.
        lengths : torch.LongTensor (B,), optional
            Real frames of each row; None: all of them.

        Returns
        -------
        torch.Tensor (B, C)
            Not normalised.
        """
        batch, width, _ = x.shape
        if lengths is None:
            lengths = torch.full((batch,), width, device=x.device)
        packing = Packing(lengths.to(x.device), width)
        tokens = packing.pack(x)  # (N, D), N = sum of lengths
        if self.training:
            tokens = self._masked(tokens, packing)
        first = packing.places == 0
        last = packing.places == packing.lengths[packing.rows] - 1
        for block in self.blocks:
            tokens = block(tokens, first, last)
        return self.classifier(masked_mean(packing.unpack(tokens), packing.lengths))

    def _masked(self, tokens, packing):
        """Augmented frames (N, D), drawn from torch's global generator."""
        frames = span_mask(packing.lengths, packing.width, *self.time_masking)  # (B, T)
        frames = packing.pack(frames).unsqueeze(-1)  # (N, 1)
        tokens = torch.where(frames, self.mask_vector.to(tokens.dtype), tokens)
        widths = torch.full_like(packing.lengths, tokens.shape[-1])
        channels = span_mask(widths, tokens.shape[-1], *self.channel_masking)  # (B, D)
        return tokens.masked_fill(channels[packing.rows], 0)


class ShiftBlock(nn.Module):
    """Temporal shift in place of attention, then ``LN(x + MLP(x))``; nothing around the shift.

    Arguments
    ---------
    dim : int
        D; the MLP is 4 D wide.
    """

    def __init__(self, dim):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens, first, last):
        """Packed frames (N, D) and where rows begin and end (N,) -> (N, D)."""
        x = temporal_shift(tokens, first, last)
        return self.norm(x + self.mlp(x))


def temporal_shift(tokens, first, last):
    """First quarter of the channels from the frame before, second quarter from the one after.

    Arguments
    ---------
    tokens : torch.Tensor (N, D)
        Packed frames.
    first, last : torch.BoolTensor (N,)
        True on each utterance's first and last frame, where zeros are drawn.

    Returns
    -------
    torch.Tensor (N, D)

    Example
    -------
    >>> ends = torch.tensor([True, False]), torch.tensor([False, True])
    >>> temporal_shift(torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]), *ends)
    tensor([[0., 6., 3., 4.],
            [1., 0., 7., 8.]])
    """
    quarter = tokens.shape[-1] // 4
    before = F.pad(tokens[:-1, :quarter], (0, 0, 1, 0)).masked_fill(first.unsqueeze(-1), 0)
    after = F.pad(tokens[1:, quarter : 2 * quarter], (0, 0, 0, 1))
    after = after.masked_fill(last.unsqueeze(-1), 0)
    return torch.cat([before, after, tokens[:, 2 * quarter :]], dim=-1)


def span_mask(lengths, width, prob, span, least):
    """Random spans of each row, as wav2vec 2.0 and WavLM draw them in fine-tuning.

    A row of L positions gets ``floor(prob * L / span + u)`` spans, u uniform in [0, 1), at least
    `least`, but no more than fit side by side (``L // span``): a row shorter than one span gets
    none. They begin at different places and may overlap.

    Arguments
    ---------
    lengths : torch.LongTensor (B,)
    width : int
    prob : float
    span, least : int

    Returns
    -------
    torch.BoolTensor (B, width)
        True where masked, never beyond a row's length.

    Example
    -------
    >>> span_mask(torch.tensor([8, 3]), 8, prob=0.1, span=4, least=1).sum(1)
    tensor([4, 0])
    """
    batch, device = len(lengths), lengths.device
    wanted = (prob * lengths / span + torch.rand(batch, device=device)).long().clamp(min=least)
    wanted = torch.minimum(wanted, lengths // span)  # (B,)
    noise = torch.rand(batch, width, device=device)
    noise = noise.masked_fill(~frame_mask(lengths - span + 1, width), 2.0)  # no span begins there
    begins = noise.argsort(1).argsort(1) < wanted.unsqueeze(1)  # the `wanted` lowest of each row
    covered = F.pad(begins.cumsum(1), (span, 0))
    return covered[:, span:] > covered[:, :width]  # a span began in the last `span` places
