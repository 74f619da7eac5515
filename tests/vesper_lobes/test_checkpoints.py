"""Every checkpoint format, on random weights of that format; nothing but tensors is read."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import HubertModel, Wav2Vec2FeatureExtractor, WavLMForCTC, WavLMModel

from vesper_lobes.checkpoints import CheckpointError, load_encoder, save_encoder, weights_hash
from vesper_lobes.encoder import Encoder

POSITIONAL = "encoder.pos_conv_embed.conv."
TO_FAIRSEQ = [
    ("masked_spec_embed", "mask_emb"),
    ("feature_projection.layer_norm.", "layer_norm."),
    ("feature_projection.projection.", "post_extract_proj."),
    (
        "encoder.pos_conv_embed.conv.parametrizations.weight.original0",
        "encoder.pos_conv.0.weight_g",
    ),
    (
        "encoder.pos_conv_embed.conv.parametrizations.weight.original1",
        "encoder.pos_conv.0.weight_v",
    ),
    (POSITIONAL, "encoder.pos_conv.0."),
    (".feed_forward.intermediate_dense.", ".fc1."),
    (".feed_forward.output_dense.", ".fc2."),
    (".attention.gru_rel_pos_linear.", ".self_attn.grep_linear."),
    (".attention.gru_rel_pos_const", ".self_attn.grep_a"),
    (".attention.rel_attn_embed.", ".self_attn.relative_attention_bias."),
    (".attention.", ".self_attn."),
]


def fairseq_state(encoder):
    """The encoder's weights under the names of Microsoft's release."""
    large = encoder.config.is_large_type
    state = {}
    for name, tensor in encoder.state_dict().items():
        if name.startswith("feature_extractor"):
            name = name.replace(".conv.", ".0.")
            name = name.replace(".layer_norm.", ".2.1." if large else ".2.")
        if name.startswith("encoder.layers."):
            name = name.replace(".layer_norm.", ".self_attn_layer_norm.")
        for ours, theirs in TO_FAIRSEQ:
            name = name.replace(ours, theirs) if not name.startswith(theirs) else name
        state[name] = tensor.clone()
    return state


def assert_same_states(a, b, samples=6000):
    wavs = torch.randn(1, samples)
    for x, y in zip(a(wavs).states, b(wavs).states, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("kind", ["wavlm_large", "wavlm_base", "hubert_large", "hubert_base"])
def test_round_trip(kind, tiny_config, tmp_path):
    encoder = Encoder(tiny_config(kind)).eval()
    loaded = load_encoder(save_encoder(encoder, tmp_path / "model"))
    assert loaded.config == encoder.config
    assert not loaded.training
    assert_same_states(loaded, encoder)
    assert sorted(os.listdir(tmp_path / "model")) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]


@pytest.mark.parametrize("kind", ["wavlm_large", "wavlm_base", "hubert_large", "hubert_base"])
def test_transformers_opens_an_export_with_identical_states(kind, tiny_config, tmp_path):
    encoder = Encoder(tiny_config(kind)).eval()
    save_encoder(encoder, tmp_path)
    model_class = WavLMModel if encoder.config.model_type == "wavlm" else HubertModel
    model, report = model_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(tmp_path)
    assert extractor.do_normalize is encoder.config.do_normalize
    wav = torch.randn(8000) * 0.1 + 0.3
    inputs = extractor(wav.numpy(), sampling_rate=16000, return_tensors="pt").input_values
    inputs_of_layers = []
    for layer in model.encoder.layers:
        layer.register_forward_pre_hook(lambda _, args: inputs_of_layers.append(args[0]))
    model.eval()(inputs)
    for state, reference in zip(encoder(wav[None]).states, inputs_of_layers, strict=False):
        assert (state - reference).abs().max() <= 1e-5 * reference.abs().max()


def test_reads_what_transformers_writes(tiny_config, tmp_path):
    encoder = Encoder(tiny_config()).eval()
    save_encoder(encoder, tmp_path / "ours")
    WavLMModel.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    loaded = load_encoder(tmp_path / "theirs")
    assert_same_states(loaded, encoder)


def test_reads_a_task_model_and_leaves_its_head(tiny_config, tmp_path):
    encoder = Encoder(tiny_config()).eval()
    save_encoder(encoder, tmp_path / "ours")
    WavLMForCTC.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "ctc")
    assert_same_states(load_encoder(tmp_path / "ctc"), encoder)


def test_reads_old_pickled_weights_with_weight_norm_names(tiny_config, tmp_path):
    """microsoft/wavlm-large on the hub is a pytorch_model.bin with weight_g and weight_v."""
    encoder = Encoder(tiny_config()).eval()
    save_encoder(encoder, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    conv = "encoder.pos_conv_embed.conv."
    state[conv + "weight_g"] = state.pop(conv + "parametrizations.weight.original0")
    state[conv + "weight_v"] = state.pop(conv + "parametrizations.weight.original1")
    torch.save(state, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    assert_same_states(load_encoder(tmp_path), encoder)


def test_reads_sharded_safetensors(tiny_config, tmp_path):
    encoder = Encoder(tiny_config()).eval()
    save_encoder(encoder, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    names = sorted(state)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, part in shards.items():
        save_file({n: state[n] for n in part}, tmp_path / shard)
    weight_map = {n: shard for shard, part in shards.items() for n in part}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    (tmp_path / "model.safetensors").unlink()
    assert_same_states(load_encoder(tmp_path), encoder)


@pytest.mark.parametrize("kind", ["wavlm_large", "wavlm_base"])
def test_reads_microsofts_release(kind, tiny_config, tmp_path):
    encoder = Encoder(tiny_config(kind, max_bucket_distance=800)).eval()
    state = fairseq_state(encoder)
    mode = "2.1" if kind == "wavlm_large" else "2"
    assert f"feature_extractor.conv_layers.0.{mode}.weight" in state
    assert "encoder.layers.0.self_attn.grep_a" in state and "post_extract_proj.bias" in state
    torch.save({"cfg": {"encoder_layers": 4}, "model": state}, tmp_path / "WavLM.pt")
    loaded = load_encoder(tmp_path / "WavLM.pt")
    assert loaded.config.do_normalize is (kind == "wavlm_large")
    assert_same_states(loaded, encoder)


class CfgNode(dict):
    """As pickled by yacs: a dict subclass with attributes of its own."""

    def __init__(self, *args):
        super().__init__(*args)
        self.__dict__["__immutable__"] = True


CfgNode.__module__ = "yacs.config"


def test_reads_the_published_codes_checkpoint(tiny_config, tmp_path, monkeypatch):
    """A pickle with a yacs CfgNode and NumPy scalars, which a safe load refuses."""
    import sys
    import types

    package, module = types.ModuleType("yacs"), types.ModuleType("yacs.config")
    module.CfgNode = CfgNode
    monkeypatch.setitem(sys.modules, "yacs", package)
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    encoder = Encoder(tiny_config(max_bucket_distance=800)).eval()
    state = {f"vesper.{name}": t for name, t in fairseq_state(encoder).items()}
    state = {name: t for name, t in state.items() if "encoder.layer_norm" not in name}
    for predictor in "lhx":
        state[f"{predictor}_predictor.simple_ffn.0.weight"] = torch.randn(16, 32)
    content = {
        "cfg": CfgNode({"train": CfgNode({"lr": 5e-4})}),
        "epoch": 3,
        "iteration": 7,
        "lowest_loss": np.float64(0.5),
        "model": state,
        "optimizer": {"state": {}},
        "scheduler": {"base_lrs": [1e-3]},
    }
    torch.save(content, tmp_path / "model_best.pt")
    monkeypatch.delitem(sys.modules, "yacs")
    monkeypatch.delitem(sys.modules, "yacs.config")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "model_best.pt", weights_only=True)
    assert_same_states(load_encoder(tmp_path / "model_best.pt"), encoder)


class Bomb:
    """Writes a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_a_booby_trapped_checkpoint_runs_nothing(tiny_config, tmp_path):
    trap = tmp_path / "sprung"
    content = {"cfg": Bomb(trap), "model": fairseq_state(Encoder(tiny_config()))}
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="tensors only"):
        load_encoder(tmp_path / "model.pt")
    assert not trap.exists()


def test_missing_and_unexpected_names_are_listed(tiny_config, tmp_path):
    encoder = Encoder(tiny_config())
    save_encoder(encoder, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["encoder.layers.9.stray"] = torch.ones(1)
    state.pop("encoder.layers.0.layer_norm.bias")
    state["masked_spec_embed"] = torch.ones(5)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        load_encoder(tmp_path)
    text = str(error.value)
    assert "missing: ['encoder.layers.0.layer_norm.bias']" in text
    assert "unexpected: ['encoder.layers.9.stray']" in text
    assert "masked_spec_embed: (5,) for (32,)" in text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere/at/all", "no such file or folder"),
        ("./wavlm-large", "no such file or folder"),
        ("microsoft/wavlm-large-that-is-not", "config.json is wanted"),
    ],
)
def test_wrong_path_or_no_network_says_what_to_do(source, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=message) as error:
        load_encoder(source)
    assert "a local folder with config.json" in str(error.value)


def test_folder_without_weights_names_the_file(tiny_config, tmp_path):
    save_encoder(Encoder(tiny_config()), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is wanted"):
        load_encoder(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json is wanted"):
        load_encoder(tmp_path)


def test_unsupported_variants_are_refused(tiny_config, tmp_path):
    save_encoder(Encoder(tiny_config("hubert_base")), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change in ({"conv_pos_batch_norm": True}, {"model_type": "wav2vec2"}):
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(CheckpointError, match=next(iter(change))):
            load_encoder(tmp_path)


def test_do_normalize_can_be_overridden(tiny_config, tmp_path):
    save_encoder(Encoder(tiny_config()), tmp_path)
    assert load_encoder(tmp_path).config.do_normalize
    assert not load_encoder(tmp_path, do_normalize=False).config.do_normalize
    (tmp_path / "preprocessor_config.json").unlink()
    assert load_encoder(tmp_path).config.do_normalize  # Large type


def test_an_interrupted_save_leaves_the_old_file(tiny_config, tmp_path, monkeypatch):
    encoder = Encoder(tiny_config()).eval()
    save_encoder(encoder, tmp_path)

    def fail(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("vesper_lobes.checkpoints.save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        save_encoder(Encoder(tiny_config()), tmp_path)
    assert len(os.listdir(tmp_path)) == 3
    assert_same_states(load_encoder(tmp_path), encoder)


def test_hash_tells_weights_and_configs_apart(tiny_config):
    encoder = Encoder(tiny_config())
    before = weights_hash(encoder)
    assert before == weights_hash(encoder)
    other = Encoder(tiny_config(do_normalize=False))
    other.load_state_dict(encoder.state_dict())
    assert weights_hash(other) != before
    with torch.no_grad():
        encoder.masked_spec_embed[0] += 1e-6
    assert weights_hash(encoder) != before


def test_a_truncated_file_is_named(tiny_config, tmp_path):
    save_encoder(Encoder(tiny_config()), tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cut short"):
        load_encoder(tmp_path)
