"""SpeechBrain's StatisticsPooling adds noise in evaluation too; our pooling gives one answer."""

import torch
from speechbrain.nnet.pooling import StatisticsPooling

from vesper_lobes.pooling import masked_mean


def test_pooling_is_deterministic():
    x = torch.randn(2, 10, 8)
    noisy = StatisticsPooling(return_std=True).eval()
    assert not torch.equal(noisy(x), noisy(x))
    lengths = torch.tensor([10, 6])
    assert torch.equal(masked_mean(x, lengths), masked_mean(x, lengths))
