"""HuBERT, and Base types: as teachers written by transformers, through every step to scores.

Nothing but ``teacher:`` (pretraining, distillation) or ``encoder:`` (emotion) says which it is.
"""

import math

import pytest
import torch
from corpus_trees import sounding
from recipe_runs import launch
from transformers import HubertConfig, HubertModel, WavLMConfig, WavLMModel

from vesper_lobes.checkpoints import load_encoder
from vesper_lobes.distillation import build_distill_student
from vesper_lobes.teacher import load_teacher

TINY = dict(
    hidden_size=32,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=48,
    conv_dim=(16,) * 7,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=2,
)
LARGE = dict(feat_extract_norm="layer", do_stable_layer_norm=True)
# what tells facebook/hubert-large-ll60k, facebook/hubert-base-ls960 and microsoft/wavlm-base apart
KINDS = {
    "hubert_large": (HubertConfig, HubertModel, dict(conv_bias=True, **LARGE)),
    "hubert_base": (HubertConfig, HubertModel, {}),
    "wavlm_base": (WavLMConfig, WavLMModel, {}),
}


@pytest.fixture
def foreign(tmp_path):
    """``foreign(kind)``: folder of a random model of transformers' own class, and the model."""

    def build(kind):
        config, model, traits = KINDS[kind]
        model = model(config(**TINY, **traits)).eval()
        model.save_pretrained(tmp_path / kind)
        return tmp_path / kind, model

    return build


@pytest.fixture(scope="module")
def emodb(tmp_path_factory):
    """EmoDB's file names: five speakers, four emotions told apart by pitch."""
    root = tmp_path_factory.mktemp("emodb")
    write = sounding(lambda path: {"W": 110, "F": 180, "N": 260, "T": 350}[path.stem[5]])
    for speaker in ("03", "08", "09", "10", "11"):
        for letter in "WFNT":
            write(root / "wav" / f"{speaker}a01{letter}a.wav", 0.3)
    return root


def layer_outputs(model, wavs):
    """Input of layer 1 and every layer's raw output of a transformers model."""
    states = []
    layers = model.encoder.layers
    layers[0].register_forward_pre_hook(lambda _, args: states.append(args[0]))
    for layer in layers:
        layer.register_forward_hook(lambda _, args, out: states.append(out))
    with torch.no_grad():
        model.eval()(wavs)
    return [state[0] if isinstance(state, tuple) else state for state in states]


def assert_same_states(encoder, model):
    wavs = torch.randn(2, 9000)
    ours = encoder.freeze()(wavs).states
    if encoder.config.do_normalize:
        wavs = (wavs - wavs.mean(-1, keepdim=True)) / wavs.std(-1, keepdim=True, correction=0)
    theirs = layer_outputs(model, wavs)
    assert len(ours) == len(theirs) == encoder.num_layers + 1
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_teacher_to_scores(kind, foreign, run_recipe, pretrain_options, emodb, tmp_path):
    """Compressed, pretrained under masks, exported, opened by transformers, evaluated."""
    folder, teacher_model = foreign(kind)
    assert_same_states(load_encoder(folder), teacher_model)
    options = {**pretrain_options, "teacher": folder, "num_steps": 4, "lr": 0.01}
    rows = run_recipe("pretrain", "vesper_mini", tmp_path / "run", **options)
    assert all(math.isfinite(value) for value in rows[-1]["train"].values())
    assert 0 < rows[-1]["masks"]["word"] <= rows[-1]["masks"]["phoneme_of_high"] < 1

    export = tmp_path / "run/export"
    student, teacher = load_encoder(export), load_encoder(folder)
    assert student.config.model_type == kind.split("_")[0] and student.num_layers == 2
    names = student.state_dict().keys()
    hubert, large = kind.startswith("hubert"), kind.endswith("large")
    assert any("gru_rel_pos" in n or "rel_attn_embed" in n for n in names) is not hubert
    assert ("feature_extractor.conv_layers.3.conv.bias" in names) is large
    frozen = teacher.feature_extractor.state_dict()
    own = student.feature_extractor.state_dict()
    assert all(torch.equal(own[name], frozen[name]) for name in frozen)
    moved = "encoder.layers.1.attention.q_proj.weight"
    before = teacher.state_dict()[moved.replace("layers.1", "layers.2")]  # extraction: layer 3
    assert not torch.equal(student.state_dict()[moved], before)

    model, report = type(teacher_model).from_pretrained(export, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_same_states(student, model)

    given = dict(data_folder=emodb, encoder=export, teacher=folder, head_seeds=1)
    given |= dict(output_folder=tmp_path / "scores", export="null", ssl_saw_test_audio=False)
    given |= dict(baselines="[teacher, extraction]")
    arguments = [part for key, value in given.items() for part in (f"--{key}", value)]
    metrics = launch("EmoDB", "vesper_mini", *arguments, epochs=1)
    assert 0 <= metrics["pooled"]["UA"] <= 1
    assert set(metrics["baselines"]) == {"teacher", "extraction"}


@pytest.mark.parametrize("kind", KINDS)
def test_distillation_from_it(kind, foreign):
    teacher = load_teacher(foreign(kind)[0])
    student = build_distill_student(teacher, 2, num_outputs=64, tau=1.0, seed=0)
    wavs = torch.randn(2, 8000)
    features, lengths = student.encoder.cnn(wavs)
    student(features, lengths, teacher(wavs)[1])["kl"].backward()
    assert not [n for n, p in student.named_parameters() if p.requires_grad and p.grad is None]


def test_a_checkpoint_of_another_backbone_is_refused(
    foreign, run_recipe, pretrain_options, tmp_path
):
    """The same output folder with another teacher must not go on silently."""
    options = {**pretrain_options, "num_steps": 2}
    run_recipe("pretrain", "vesper_mini", tmp_path / "run", **options)
    options |= {"teacher": foreign("hubert_large")[0], "num_steps": 4}
    with pytest.raises((RuntimeError, ValueError), match="gru_rel_pos|nexpected"):
        run_recipe("pretrain", "vesper_mini", tmp_path / "run", **options)
