"""The published SpeechFormer-S squeezes away the one token that 48 frames or fewer (2 x 6 x 4)
become, and its mean over time is then a mean over the batch: one answer for all."""

import pytest
import torch

from vesper_lobes.speechformer import SpeechFormerHead


def test_the_trap_is_real():
    tokens = torch.randn(5, 1, 16)  # (B, T, D) of five short utterances
    assert tokens.squeeze().mean(dim=0).shape == (16,)  # the batch is gone


@pytest.mark.parametrize("frames", [1, 12, 47, 48, 49])
def test_short_utterances_keep_their_own_answers(frames):
    head = SpeechFormerHead(16, 4).eval()
    with torch.no_grad():
        for parameter in head.classifier.parameters():
            parameter.mul_(4)  # answers well apart
    x = torch.randn(5, frames, 16)
    logits = head(x)
    assert logits.shape == (5, 4)
    assert torch.pdist(logits).min() > 1e-3
    for row, expected in zip(x, logits, strict=True):
        torch.testing.assert_close(head(row[None])[0], expected, rtol=1e-5, atol=1e-5)
