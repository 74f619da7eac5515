"""oneDNN's bf16 grouped convolution returns wrong numbers below 16 channels a group."""

import pytest
import torch

from vesper_lobes.encoder import Encoder


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_positional_conv_in_bf16_stays_near_float32(groups, tiny_config):
    conv = Encoder(tiny_config(num_conv_pos_embedding_groups=groups)).encoder.pos_conv_embed
    x = torch.randn(2, 24, 32)
    with torch.no_grad():
        plain = conv(x)
        for cast in (x, x.bfloat16()):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                half = conv(cast)
            assert (half.float() - plain).abs().max() <= 0.01 * plain.abs().max()
