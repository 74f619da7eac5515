"""SpeechBrain's lobe normalises over the padded row; Base's GroupNorm sees the padding."""

import pytest
import torch
import torch.nn.functional as F

from vesper_lobes.encoder import Encoder


@pytest.mark.parametrize("kind", ["wavlm_large", "wavlm_base"])
def test_a_short_row_in_a_long_batch_keeps_its_states(kind, tiny_config):
    encoder = Encoder(tiny_config(kind)).eval()
    wav = torch.randn(1, 6000) + 0.2
    padded = F.pad(wav, (0, 26000))
    alone = encoder(wav)
    together = encoder(padded, torch.tensor([6000 / 32000]))
    naive = encoder(padded)  # what padding does when nobody masks it
    frames = int(alone.lengths)
    for a, b in zip(alone.states, together.states, strict=True):
        assert (a - b[:, :frames]).abs().max() <= 1e-5 * a.abs().max()
    last = alone.states[-1]
    assert (naive.states[-1][:, :frames] - last).abs().max() > 1e-2 * last.abs().max()
