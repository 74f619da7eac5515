"""Masked prediction of frame clusters: how the mini family's teachers learn without labels.

HuBERT (Hsu et al., 2021), first iteration: spans of the encoder's input are replaced by one learned
embedding, and the cluster of each hidden frame is predicted from its context.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from vesper_lobes.lengths import frame_mask
from vesper_lobes.process_group import mean_over_processes, world_size


def span_mask(noise, lengths, start_share=0.08, span=10):
    """Spans of hidden frames, drawn without a loop and without padding.

    Each row hides round(start_share x frames) spans (one at least); their starts are its real
    frames of lowest noise, overlaps allowed (HuBERT: 8 % of frames start a span of 10, which hides
    about half).

    Arguments
    ---------
    noise : torch.Tensor
        (B, T) uniform in [0, 1).
    lengths : torch.Tensor
        (B,) real frames.
    start_share : float
        Share of real frames that start a span.
    span : int
        Frames a span hides, clipped to the real ones.

    Returns
    -------
    torch.Tensor
        (B, T) bool, True where hidden.

    Example
    -------
    >>> mask = span_mask(torch.rand(2, 100), torch.tensor([100, 50]))
    >>> bool(mask[1, 50:].any()), bool(mask.any(1).all())
    (False, True)
    """
    real = frame_mask(lengths, noise.shape[1])
    count = (lengths * start_share).round().clamp_min(1)[:, None]  # (B, 1)
    ranks = noise.masked_fill(~real, 2.0).argsort(1).argsort(1)  # (B, T)
    starts = (ranks < count) & real
    hidden = F.pad(starts.float()[:, None], (span - 1, 0))  # (B, 1, T + span - 1)
    return F.max_pool1d(hidden, span, 1)[:, 0].bool() & real


class MaskedPrediction(NamedTuple):
    """What one forward pass yields: (B, T, K) logits and (B,) real frames."""

    logits: torch.Tensor
    lengths: torch.Tensor


class MaskedPredictor(nn.Module):
    """An encoder under training with a classifier of frame clusters on its last layer.

    The classifier has a LayerNorm of its own: the encoder's last state is a raw layer output, and
    its own final norm stays out of training (it is not part of the states that users read).

    Arguments
    ---------
    encoder : vesper_lobes.encoder.Encoder
        Trained as a whole, convolutions included.
    num_clusters : int
        K.

    Example
    -------
    >>> from vesper_lobes.config import EncoderConfig
    >>> from vesper_lobes.encoder import Encoder
    >>> model = MaskedPredictor(Encoder(EncoderConfig.mini_base()), num_clusters=10)
    >>> model(torch.randn(2, 8000)).logits.shape
    torch.Size([2, 24, 10])
    """

    def __init__(self, encoder, num_clusters):
        super().__init__()
        self.encoder = encoder
        self.norm = nn.LayerNorm(encoder.hidden_size)
        self.classifier = nn.Linear(encoder.hidden_size, num_clusters)
        if encoder.config.is_large_type:
            encoder.encoder.layer_norm.requires_grad_(False)  # takes no part in pre-norm states

    def forward(self, wavs, wav_lens=None, mask=None):
        """Logits of every frame; `mask` (B, T) bool hides frames."""
        features, lengths = self.encoder.cnn(wavs, wav_lens)
        states = self.encoder.encode(features, lengths, phoneme_mask=mask).states
        return MaskedPrediction(self.classifier(self.norm(states[-1])), lengths)


def masked_prediction_loss(logits, targets, mask):
    """Cross-entropy and accuracy over hidden frames only (HuBERT, eq. 1 with alpha = 1).

    Arguments
    ---------
    logits : torch.Tensor
        (B, T, K).
    targets : torch.Tensor
        (B, T) cluster of each frame.
    mask : torch.Tensor
        (B, T) bool; no True in padding.

    Returns
    -------
    dict
        `loss` (with gradient) and `accuracy`, both scalars; 0 where nothing is hidden. With several
        processes each must call it at every step: the mean of theirs is that of one process with
        the whole batch.
    """
    logits, targets = logits[mask].float(), targets[mask]  # (M, K), (M,)
    hidden = mean_over_processes(logits.new_tensor(len(targets))).clamp(min=1 / world_size())
    right = (logits.argmax(-1) == targets).sum()
    return {
        "loss": F.cross_entropy(logits, targets, reduction="sum") / hidden,
        "accuracy": right / hidden,
    }
