"""The published code runs WavLM Base with pre-norm layers and without the encoder's LayerNorm."""

import dataclasses

import torch

from vesper_lobes.encoder import Encoder


def test_pre_norm_wiring_of_base_weights_is_far_off(tiny_config):
    base = Encoder(tiny_config("wavlm_base")).eval()
    config = dataclasses.replace(base.config, do_stable_layer_norm=True)
    published = Encoder(config).eval()
    published.load_state_dict(base.state_dict())  # nothing complains: the names are the same
    wavs = torch.randn(1, 8000)
    right, wrong = base(wavs).states[-1], published(wavs).states[-1]
    assert (right - wrong).abs().max() > 0.1 * right.abs().max()


def test_base_type_uses_its_layer_norm(tiny_config):
    base = Encoder(tiny_config("wavlm_base")).eval()
    wavs = torch.randn(1, 8000)
    before = base(wavs).states[0]
    with torch.no_grad():
        base.encoder.layer_norm.weight.mul_(2)
    torch.testing.assert_close(base(wavs).states[0], 2 * before)


def test_large_type_keeps_its_layer_norm_out_of_the_states(tiny_config):
    large = Encoder(tiny_config("wavlm_large")).eval()
    wavs = torch.randn(1, 8000)
    before = large(wavs).states
    with torch.no_grad():
        large.encoder.layer_norm.weight.mul_(2)
    assert all(torch.equal(a, b) for a, b in zip(before, large(wavs).states, strict=True))
    assert not large.encoder.layer_norm.weight.requires_grad
