"""The published code averages zero-padded *projected* frames over the real count, so each padded
frame adds the projector's bias: bias * T / T_real, several units of logit on short clips."""

import torch

from vesper_lobes.heads import SuperbHead


def test_padding_adds_no_bias():
    torch.manual_seed(0)
    head = SuperbHead(16, 4)
    torch.nn.init.constant_(head.projector.bias, 3.0)
    clip = torch.randn(1, 20, 16)
    padded = torch.cat([clip, torch.zeros(1, 180, 16)], dim=1)
    lengths = torch.tensor([20])

    faulty = head.classifier(head.projector(padded).sum(1) / lengths)
    assert (faulty - head(clip)).abs().max() > 1  # the fault is there to be found
    torch.testing.assert_close(head(padded, lengths), head(clip))
