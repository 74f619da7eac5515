"""The fast path computes the plain path's states, takes nothing it cannot, and notices changes."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vesper_lobes import encoder as encoder_module
from vesper_lobes import fast_conv, fast_layers
from vesper_lobes.encoder import Encoder
from vesper_lobes.lengths import FIELD, HOP, n_frames

KINDS = ["wavlm_large", "wavlm_base", "hubert_large", "hubert_base"]
HALF = dict(device_type="cpu", dtype=torch.bfloat16)


@pytest.fixture
def build(tiny_config):
    """An encoder with lively weights; ``build(kind, **changes)``."""

    def make(kind="wavlm_large", **changes):
        encoder = Encoder(tiny_config(kind, **changes)).eval()
        with torch.no_grad():
            for name, parameter in encoder.named_parameters():
                if "norm" in name or name.endswith("bias") or "gru" in name or "rel_attn" in name:
                    parameter.add_(torch.randn_like(parameter) * 0.3)
                elif "q_proj" in name or "k_proj" in name:
                    parameter.mul_(5)
        return encoder

    return make


@pytest.fixture
def calls(monkeypatch):
    """Names of the parts that took the fast path, in order."""
    taken = []
    for name in ("front_end_features", "layer_states"):
        original = getattr(encoder_module, name)

        def counted(*args, _original=original, _name=name):
            taken.append(_name)
            return _original(*args)

        monkeypatch.setattr(encoder_module, name, counted)
    return taken


BOTH = ["front_end_features", "layer_states"]


def plain(encoder, *args, **options):
    """The plain path's answer."""
    encoder.fast = False
    try:
        with torch.no_grad():
            return encoder(*args, **options)
    finally:
        encoder.fast = True


def fast(encoder, *args):
    with torch.no_grad():
        return encoder(*args)


def assert_same(out, expected, tolerance=1e-5):
    """Relative to the largest entry, over real frames."""
    assert out.lengths.tolist() == expected.lengths.tolist()
    for index, (a, b) in enumerate(zip(out.states, expected.states, strict=True)):
        assert a.shape == b.shape and a.is_contiguous()
        for row, other, count in zip(a, b, out.lengths, strict=True):
            error = (row[:count].float() - other[:count]).abs().max() / other[:count].abs().max()
            assert error <= tolerance, f"state {index}: {error}"


def samples_for(frames, extra=0):
    return FIELD + (frames - 1) * HOP + extra


@pytest.mark.parametrize("samples", [400, 719, 720, 8000, 33333])
@pytest.mark.parametrize("kind", KINDS)
def test_states_are_those_of_the_plain_path(kind, samples, build, calls):
    encoder, wavs = build(kind), torch.randn(2, samples) * 0.1 + 0.02
    assert_same(fast(encoder, wavs), plain(encoder, wavs))
    assert calls == (BOTH if kind.endswith("large") else BOTH[1:])  # Base: the plain front end


@pytest.mark.parametrize("extra", [0, 319])
@pytest.mark.parametrize("frames", [127, 128, 129, 256, 257])
def test_borders_of_chunks(frames, extra, build):
    assert fast_conv.CHUNK_FRAMES == 128
    encoder, wavs = build(), torch.randn(1, samples_for(frames, extra))
    with torch.no_grad():
        features, lengths = encoder.cnn(wavs)
        encoder.fast = False
        expected, _ = encoder.cnn(wavs)
    assert features.shape[1] == frames == lengths.item()
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)


def test_rows_decide_the_layout_of_bfloat16_products_not_the_result(build, monkeypatch):
    encoder, wavs = build(), torch.randn(1, samples_for(40))
    found = []
    for rows in (0, 1 << 30):
        monkeypatch.setattr(fast_conv, "PACKED_ROWS", rows)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            found.append(encoder.cnn(wavs)[0].float())
    torch.testing.assert_close(*found, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("frames", [15, 16, 17, 18, 33, 34, 35])
def test_borders_of_spectra_rows_and_queries(frames, build, monkeypatch):
    monkeypatch.setattr(fast_layers, "QUERIES", 8)
    monkeypatch.setattr(fast_layers, "ROWS", 5)
    encoder, wavs = build(), torch.randn(2, samples_for(frames))
    assert encoder.config.num_conv_pos_embeddings == 16  # spectra come in blocks of 17 frames
    lens = torch.tensor([1.0, (samples_for(frames) - HOP) / samples_for(frames)])
    assert_same(fast(encoder, wavs, lens), plain(encoder, wavs, lens))


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_neither_computed_nor_felt(kind, build):
    encoder, lengths = build(kind), [16000, 400, 9600, 719, 12345]
    rows = [torch.randn(n) * (0.05 + i) + i for i, n in enumerate(lengths)]
    batch = torch.full((5, 16000), float("nan") if kind.endswith("large") else 7.0)
    for row, wav in zip(batch, rows, strict=True):
        row[: len(wav)] = wav
    out = fast(encoder, batch, torch.tensor(lengths) / 16000)
    assert out.lengths.tolist() == [n_frames(n) for n in lengths]
    for index, wav in enumerate(rows):
        for together, alone in zip(out.states, fast(encoder, wav[None]).states, strict=True):
            count = alone.shape[1]
            error = (together[index, :count] - alone[0]).abs().max() / alone.abs().max()
            assert error <= 1e-5
            assert not together[index, count:].any()
    assert_same(out, plain(encoder, batch.nan_to_num(7.0), torch.tensor(lengths) / 16000))


@pytest.mark.parametrize("after", [False, True])
def test_masks_are_applied(after, build, calls):
    encoder = build()
    encoder.mask_after_pos_conv = after
    with torch.no_grad():
        features, lengths = encoder.cnn(torch.randn(2, 16000), torch.tensor([1.0, 0.6]))
        masks = torch.rand(2, 2, 49) < 0.4
        out = encoder.encode(features, lengths, *masks)
        encoder.fast = False
        assert_same(out, encoder.encode(features, lengths, *masks))
    assert calls == BOTH


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_under_autocast(kind, build, calls):
    encoder, wavs, lens = build(kind), torch.randn(3, 16000), torch.tensor([1.0, 0.5, 0.8])
    expected = plain(encoder, wavs, lens)
    with torch.autocast(**HALF):
        out, same_type = fast(encoder, wavs, lens), plain(encoder, wavs, lens)
    assert calls[-1] == "layer_states"
    assert [s.dtype for s in out.states] == [s.dtype for s in same_type.states]
    assert_same(out, expected, 0.03)  # tiny dimensions average little out; 1 % at full width
    again = fast(encoder, wavs, lens)  # float32 is not disturbed
    assert_same(again, expected)


@pytest.mark.slow
def test_vesper4_within_the_promised_tolerances(calls):
    from vesper_lobes.config import EncoderConfig

    encoder = Encoder(EncoderConfig.wavlm_large(num_hidden_layers=4)).eval()
    wavs, lens = torch.randn(2, 48000), torch.tensor([1.0, 0.7])
    expected = plain(encoder, wavs, lens)
    assert_same(fast(encoder, wavs, lens), expected, 1e-5)
    with torch.autocast(**HALF):
        assert_same(fast(encoder, wavs, lens), expected, 0.01)
    assert calls == BOTH * 2


def shift_weights(encoder):
    """In place, as an optimizer does."""
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)


def reload(encoder):
    encoder.load_state_dict({k: v + 0.05 for k, v in encoder.state_dict().items()})


def assign(encoder):
    encoder.load_state_dict({k: v + 0.05 for k, v in encoder.state_dict().items()}, assign=True)


def step(encoder):
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.05, fused=True)
    encoder.train()(torch.randn(1, 8000)).states[-1].sum().backward()
    optimizer.step()
    encoder.eval().zero_grad()


def replace(encoder):
    attention = encoder.encoder.layers[1].attention
    attention.v_proj = nn.Linear(32, 32)
    encoder.encoder.pos_conv_embed.conv.bias = nn.Parameter(torch.randn(32))


def data(encoder):
    for parameter in encoder.parameters():
        parameter.data = parameter.data + 0.05


def there_and_back(encoder):
    shift_weights(encoder.double())
    encoder.float()


@pytest.mark.parametrize(
    "change", [shift_weights, reload, assign, step, replace, data, there_and_back]
)
def test_changed_weights_are_noticed(change, build, calls):
    encoder, wavs = build("hubert_large" if change is data else "wavlm_large"), torch.randn(1, 9000)
    before = fast(encoder, wavs).states[-1]
    with torch.autocast(**HALF):
        fast(encoder, wavs)
    change(encoder)
    calls.clear()
    expected = plain(encoder, wavs)
    out = fast(encoder, wavs)
    assert calls == BOTH
    assert (out.states[-1] - before).abs().max() > 0.01
    assert_same(out, expected)
    with torch.autocast(**HALF):
        assert_same(fast(encoder, wavs), expected, 0.05)


def test_every_parameter_is_watched(build):
    """A change of any one parameter shows wherever it shows in the plain path."""
    encoder, wavs = build("hubert_large", num_hidden_layers=2), torch.randn(1, 1500)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name in ("masked_spec_embed",) or name.startswith("encoder.layer_norm"):
                continue
            with torch.autocast(**HALF):
                before = encoder(wavs).states
            fast(encoder, wavs)
            original = parameter.clone()
            parameter.add_(torch.rand_like(parameter) * 0.5 + 0.1)
            assert_same(fast(encoder, wavs), plain(encoder, wavs))
            with torch.autocast(**HALF):
                after = encoder(wavs).states
            if not name.endswith("k_proj.bias"):  # softmax cancels it
                assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True)), name
            parameter.copy_(original)


def test_copies_are_independent_and_nothing_made_from_weights_travels(build):
    encoder, wavs = build(), torch.randn(1, 8000)
    keys = list(encoder.state_dict())
    first = fast(encoder, wavs).states[-1]
    with torch.autocast(**HALF):
        fast(encoder, wavs)
    assert encoder.weight_cache._held and list(encoder.state_dict()) == keys
    assert not pickle.loads(pickle.dumps(encoder.weight_cache))._held
    twin = copy.deepcopy(encoder)
    assert not twin.weight_cache._held and twin.weight_cache is not encoder.weight_cache
    shift_weights(twin)
    assert torch.equal(fast(encoder, wavs).states[-1], first)
    assert_same(fast(twin, wavs), plain(twin, wavs))
    encoder.to("cpu")
    assert not encoder.weight_cache._held  # on an accelerator they would only fill memory


def test_training_and_gradients_take_the_plain_path(build, calls):
    encoder, wavs = build(), torch.randn(1, 8000)
    encoder(wavs).states[-1].sum().backward()
    assert calls == [] and encoder.feature_projection.projection.weight.grad is not None
    encoder.train()
    with torch.no_grad():
        encoder(wavs)  # dropout: only the front end has none
    assert calls == ["front_end_features"]


def test_frozen_front_end_is_fast_while_the_rest_trains(build, calls):
    encoder, wavs = build().freeze_cnn().train(), torch.randn(2, 8000)
    encoder(wavs).states[-1].sum().backward()
    assert calls == ["front_end_features"]
    calls.clear()
    encoder.freeze()(wavs)  # nothing wants a gradient, with or without no_grad
    assert calls == BOTH
    features, lengths = encoder.cnn(wavs)
    calls.clear()
    encoder.encode(features.requires_grad_(), lengths).states[-1].sum().backward()
    assert calls == [] and features.grad.abs().sum() > 0


def test_inference_mode_leaves_nothing_unusable_behind(build):
    encoder, wavs = build(), torch.randn(1, 8000)
    with torch.inference_mode(), torch.autocast(**HALF):
        encoder(wavs)
    with torch.inference_mode():
        first = encoder(wavs).states[-1].clone()
    torch.testing.assert_close(fast(encoder, wavs).states[-1], first, rtol=0, atol=0)
    encoder.train()(wavs).states[-1].sum().backward()


def test_what_it_does_not_know_takes_the_plain_path(build, calls):
    encoder, wavs = build(), torch.randn(1, 8000)
    expected = fast(encoder, wavs)
    calls.clear()
    seen = []
    handle = encoder.encoder.layers[1].register_forward_hook(lambda *_: seen.append(1))
    assert_same(fast(encoder, wavs), expected)
    assert seen and calls == ["front_end_features"]
    handle.remove()

    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    encoder.encoder.layers[0].feed_forward.output_dense = Doubled(48, 32)
    assert_same(fast(encoder, wavs), plain(encoder, wavs))
    calls.clear()
    encoder.feature_extractor.conv_layers[2].forward = lambda x, lengths: 1 / 0
    with pytest.raises(ZeroDivisionError):
        fast(encoder, wavs)
    assert calls == []


def test_other_precisions_take_the_plain_path(build, calls):
    encoder, wavs = build(), torch.randn(1, 8000)
    with torch.no_grad():
        encoder.double()(wavs.double())
        encoder.bfloat16()(wavs.bfloat16())
        with torch.autocast("cpu", dtype=torch.float16):
            encoder.float()(wavs)
    assert calls == []


def test_operations_are_counted_on_the_plain_path(build, calls):
    encoder = build()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(torch.randn(1, 8000))
    assert calls == [] and counter.get_total_flops() > 0


@pytest.mark.slow
def test_compilation_takes_the_plain_path(build, calls):
    encoder, wavs = build(), torch.randn(1, 8000)
    expected = plain(encoder, wavs)
    compiled = torch.compile(encoder, backend="eager")
    with torch.no_grad():
        assert_same(compiled(wavs), expected)
    assert calls == []


def test_switch(build, calls):
    encoder, wavs = build(), torch.randn(1, 8000)
    plain(encoder, wavs)
    assert calls == []
    fast(encoder, wavs)
    assert calls == BOTH
