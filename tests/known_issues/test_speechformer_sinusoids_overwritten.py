"""The published SpeechFormer-S initialises every parameter of more than one dimension by Xavier,
and its table of sinusoidal positions is one of them: it trains on frozen noise for positions."""

import math

import torch
from torch import nn

from vesper_lobes.speechformer import SpeechFormerHead, sinusoids


def test_the_trap_is_real():
    class Published(nn.Module):
        def __init__(self):
            super().__init__()
            self.positions = nn.Parameter(sinusoids(50, 16), requires_grad=False)
            for parameter in self.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)

    assert not torch.allclose(Published().positions, sinusoids(50, 16), atol=0.1)


def test_positions_are_sines_and_cosines_in_a_built_head():
    head = SpeechFormerHead(16, 4).eval()
    seen = []
    head.stages[0].layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    head(torch.randn(2, 50, 16), torch.tensor([50, 7]))
    for row, count in zip(seen[0].split([50, 7]), (50, 7), strict=True):
        for place in range(count):
            for pair in range(8):
                angle = place / 10000 ** (2 * pair / 16)
                expected = torch.tensor([math.sin(angle), math.cos(angle)])
                torch.testing.assert_close(row[place, 2 * pair : 2 * pair + 2], expected)


def test_no_table_among_the_weights_and_order_of_frames_counts():
    head = SpeechFormerHead(16, 4).eval()
    shapes = {tuple(value.shape) for value in head.state_dict().values()}
    assert shapes == {
        (48, 16),
        (48,),
        (16, 16),
        (16,),
        (8, 16),
        (8,),
        (16, 8),
        (4, 8),
        (4,),
        (4, 4),
    }
    x = torch.randn(1, 6, 16)
    assert not torch.allclose(head(x), head(x.flip(1)), atol=1e-4)
