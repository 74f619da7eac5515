"""Parity with transformers on random weights, and what padding may not do."""

import pytest
import torch
from transformers import HubertConfig, HubertModel, WavLMConfig, WavLMModel

from vesper_lobes.config import EncoderConfig
from vesper_lobes.encoder import Encoder
from vesper_lobes.lengths import n_frames

KINDS = ["wavlm_large", "wavlm_base", "hubert_large", "hubert_base"]


def relative_error(a, b):
    """max |a-b| / max |b|."""
    return ((a - b).abs().max() / b.abs().max()).item()


def reference_of(encoder):
    """The transformers model with the same weights."""
    config = encoder.config.to_transformers()
    config.pop("architectures")
    kind = {"wavlm": (WavLMConfig, WavLMModel), "hubert": (HubertConfig, HubertModel)}
    config_class, model_class = kind[encoder.config.model_type]
    model = model_class(config_class(**config)).eval()
    model.load_state_dict(encoder.state_dict(), strict=True)
    return model.to(next(encoder.parameters()).dtype)


def randomize(module):
    """Away from initial ones, zeros and uniform attention, so that every parameter is exercised."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "norm" in name or name.endswith("bias") or "gru" in name or "rel_attn" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
            elif "q_proj" in name or "k_proj" in name:  # 0.02 would make attention uniform
                parameter.mul_(0.1 / 0.02)
    return module


def reference_states(model, wavs):
    """Layer inputs and raw outputs, collected by hooks: hidden_states changed between versions."""
    inputs, outputs = [], []
    handles = []
    for layer in model.encoder.layers:
        handles.append(layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0])))
        handles.append(layer.register_forward_hook(lambda _, args, out: outputs.append(first(out))))
    model(wavs)
    for handle in handles:
        handle.remove()
    return [inputs[0], *outputs]


def first(output):
    return output[0] if isinstance(output, tuple) else output


def znorm(wavs):
    """transformers' feature extractor, row by row."""
    return (wavs - wavs.mean(-1, keepdim=True)) / (
        wavs.var(-1, keepdim=True, correction=0) + 1e-7
    ).sqrt()


@pytest.mark.parametrize("samples", [400, 719, 8000, 33333])
@pytest.mark.parametrize("kind", KINDS)
def test_states_equal_transformers(kind, samples, tiny_config):
    encoder = randomize(Encoder(tiny_config(kind)).eval())
    model = reference_of(encoder)
    wavs = torch.randn(2, samples) * 0.1 + 0.02
    out = encoder(wavs)
    expected = reference_states(model, znorm(wavs) if encoder.config.do_normalize else wavs)
    assert len(out.states) == len(expected) == encoder.num_layers + 1
    assert out.lengths.tolist() == [n_frames(samples)] * 2
    for index, (state, reference) in enumerate(zip(out.states, expected, strict=True)):
        assert relative_error(state, reference) <= 1e-5, f"state {index}"


@pytest.mark.parametrize("kind", KINDS)
def test_states_equal_transformers_in_double(kind, tiny_config):
    encoder = randomize(Encoder(tiny_config(kind)).eval()).double()
    model = reference_of(encoder)
    wavs = torch.randn(2, 9000, dtype=torch.double)
    expected = reference_states(model, znorm(wavs) if encoder.config.do_normalize else wavs)
    for state, reference in zip(encoder(wavs).states, expected, strict=True):
        assert relative_error(state, reference) <= 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_equal_transformers(kind, tiny_config):
    encoder = randomize(Encoder(tiny_config(kind)).eval())
    model = reference_of(encoder)
    wavs = torch.randn(2, 6000)
    weights = torch.randn(n_frames(6000), encoder.hidden_size)
    sum((state * weights).sum() for state in encoder(wavs).states).backward()
    inputs = znorm(wavs) if encoder.config.do_normalize else wavs
    sum((state * weights).sum() for state in reference_states(model, inputs)).backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    compared = 0
    for name, parameter in encoder.named_parameters():
        if parameter.grad is None:
            assert name == "masked_spec_embed" or name.startswith("encoder.layer_norm"), name
            continue
        if expected[name].abs().max() < 1e-4:  # key biases: softmax cancels them
            assert parameter.grad.abs().max() < 1e-3
            continue
        assert relative_error(parameter.grad, expected[name]) <= 1e-4, name
        compared += 1
    assert compared > 60


@pytest.mark.parametrize("shape", ["large", "base"])
def test_full_width_layers_equal_transformers(shape):
    """The real widths, heads and buckets, at two layers, one second; fast path and plain."""
    config = getattr(EncoderConfig, f"wavlm_{shape}")(num_hidden_layers=2)
    encoder = randomize(Encoder(config).eval())
    wavs = torch.randn(1, 16000)
    model = reference_of(encoder)
    with torch.no_grad():
        expected = reference_states(model, znorm(wavs) if config.do_normalize else wavs)
        for encoder.fast in (True, False):
            for state, reference in zip(encoder(wavs).states, expected, strict=True):
                assert relative_error(state, reference) <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_batched_equals_single(kind, tiny_config):
    encoder = randomize(Encoder(tiny_config(kind)).eval())
    lengths = [16000, 400, 9600, 719, 12345]
    rows = [torch.randn(n) * (0.05 + i) + i for i, n in enumerate(lengths)]
    batch = torch.full((len(rows), 16000), 7.0)  # garbage in the padding must not matter
    for row, wav in zip(batch, rows, strict=True):
        row[: len(wav)] = wav
    out = encoder(batch, torch.tensor(lengths) / 16000)
    assert out.lengths.tolist() == [n_frames(n) for n in lengths]
    for index, wav in enumerate(rows):
        single = encoder(wav.unsqueeze(0))
        for together, alone in zip(out.states, single.states, strict=True):
            assert relative_error(together[index, : n_frames(len(wav))], alone[0]) <= 1e-5


def test_permuting_rows_permutes_states(tiny_config):
    encoder = Encoder(tiny_config()).eval()
    wavs, wav_lens = torch.randn(3, 8000), torch.tensor([1.0, 0.4, 0.7])
    order = torch.tensor([2, 0, 1])
    straight, permuted = encoder(wavs, wav_lens), encoder(wavs[order], wav_lens[order])
    for a, b in zip(straight.states, permuted.states, strict=True):
        torch.testing.assert_close(a[order], b)


def test_too_short_is_an_error(tiny_config):
    with pytest.raises(ValueError, match="400 samples"):
        Encoder(tiny_config())(torch.randn(1, 399))
    with pytest.raises(ValueError, match="100 samples"):
        Encoder(tiny_config())(torch.randn(2, 1000), torch.tensor([1.0, 0.1]))


def test_odd_depth_is_an_error(tiny_config):
    with pytest.raises(ValueError, match="even"):
        Encoder(tiny_config(num_hidden_layers=3))


def test_frozen_encoder_never_trains(tiny_config):
    encoder = Encoder(tiny_config(hidden_dropout=0.5, attention_dropout=0.5)).freeze()
    wavs = torch.randn(1, 8000)
    before = encoder(wavs).states
    torch.nn.ModuleDict({"encoder": encoder}).train()
    assert not any(module.training for module in encoder.modules())
    for a, b in zip(before, encoder(wavs).states, strict=True):
        assert torch.equal(a, b)
    assert not any(p.requires_grad for p in encoder.parameters())


def test_frozen_cnn_gets_no_gradient_and_the_rest_does(tiny_config):
    encoder = Encoder(tiny_config()).freeze_cnn().train()
    encoder(torch.randn(2, 8000)).states[-1].square().sum().backward()
    assert all(p.grad is None for p in encoder.feature_extractor.parameters())
    assert encoder.feature_projection.projection.weight.grad.abs().sum() > 0


def test_dropout_only_while_training(tiny_config):
    encoder = Encoder(tiny_config(hidden_dropout=0.5)).train()
    wavs = torch.randn(1, 8000)
    assert not torch.equal(encoder(wavs).states[-1], encoder(wavs).states[-1])
    encoder.eval()
    assert torch.equal(encoder(wavs).states[-1], encoder(wavs).states[-1])


def test_phoneme_mask_replaces_content_and_leaks_nothing(tiny_config):
    encoder = Encoder(tiny_config()).eval()
    features, lengths = encoder.cnn(torch.randn(1, 16000))
    mask = torch.zeros(1, 49, dtype=torch.bool)
    mask[0, 10:18] = True
    changed = features.clone()
    changed[0, 10:18] += 5.0
    a = encoder.encode(features, lengths, phoneme_mask=mask)
    b = encoder.encode(changed, lengths, phoneme_mask=mask)
    for x, y in zip(a.states, b.states, strict=True):
        assert torch.equal(x, y)
    encoder.mask_after_pos_conv = True  # the published order leaks
    a = encoder.encode(features, lengths, phoneme_mask=mask)
    b = encoder.encode(changed, lengths, phoneme_mask=mask)
    assert not torch.equal(a.states[0], b.states[0])


def test_state_half_is_taken_before_the_word_mask(tiny_config):
    encoder = Encoder(tiny_config()).eval()
    features, lengths = encoder.cnn(torch.randn(1, 16000))
    mask = torch.zeros(1, 49, dtype=torch.bool)
    mask[0, :40] = True
    plain, masked = encoder.encode(features, lengths), encoder.encode(features, lengths, None, mask)
    half = encoder.num_layers // 2
    for index in range(half + 1):
        assert torch.equal(plain.states[index], masked.states[index])
    assert not torch.allclose(plain.states[half + 1], masked.states[half + 1])


def test_masking_is_not_in_place_and_survives_autocast(tiny_config):
    encoder = Encoder(tiny_config())
    features, lengths = encoder.cnn(torch.randn(1, 16000))
    before = features.clone()
    mask = torch.rand(1, 49) < 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = encoder.encode(features, lengths, mask, mask)
    out.states[-1].float().sum().backward()
    assert torch.equal(features, before)
    assert encoder.masked_spec_embed.grad.abs().sum() > 0


def test_parameter_counts_of_the_paper():
    with torch.device("meta"):
        sizes = {
            name: Encoder(EncoderConfig.wavlm_large(num_hidden_layers=n))
            for name, n in [("vesper4", 4), ("vesper12", 12), ("large", 24)]
        }
        sizes["base"] = Encoder(EncoderConfig.wavlm_base())
    counts = {name: e.num_parameters() for name, e in sizes.items()}
    held = {name: sum(p.numel() for p in e.parameters()) for name, e in sizes.items()}
    assert counts == dict(vesper4=63515872, vesper12=164289952, large=315451072, base=94381936)
    assert held == dict(vesper4=63517920, vesper12=164292000, large=315453120, base=94381936)
