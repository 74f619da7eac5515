"""oneDNN's bf16 grouped convolution returns wrong numbers below 16 channels a group."""

import pytest
import torch

from vesper_lobes.encoder import Encoder


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_bf16_states_stay_near_float32(groups, tiny_config):
    encoder = Encoder(tiny_config(num_conv_pos_embedding_groups=groups)).eval()
    wavs = torch.randn(2, 8000)
    with torch.no_grad():
        plain = encoder(wavs).states[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = encoder(wavs).states[0]
    assert (half.float() - plain).abs().max() <= 0.02 * plain.abs().max()
