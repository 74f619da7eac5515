import json

import pytest
import torch
from transformers import WavLMModel

from vesper_lobes.checkpoints import load_encoder, weights_hash
from vesper_lobes.masked_prediction_brain import MaskedPredictionBrain


@pytest.mark.parametrize("name, layers", [("mini_large", 12), ("mini_base", 6)])
def test_a_run_exports_what_load_encoder_and_transformers_open(
    run_recipe, teacher_options, tmp_path, name, layers
):
    rows = run_recipe("teacher", name, tmp_path / "run", **teacher_options, precision="bf16")
    encoder = load_encoder(tmp_path / "run/export")
    assert encoder.num_layers == layers and encoder.config.do_normalize == (name == "mini_large")
    model = WavLMModel.from_pretrained(tmp_path / "run/export").eval()
    wav = torch.randn(1, 8000)
    if name == "mini_base":  # the Large type wants its waveform normalised by the caller
        theirs = model(wav, output_hidden_states=True).hidden_states
        assert torch.allclose(theirs[-1], encoder(wav).states[-1], atol=1e-4)
    assert rows[-1]["optimizer_steps"] == 5
    assert set(rows[-1]["train"]) == {"loss", "accuracy", "mask"}
    record = json.loads((tmp_path / "run/export/pretraining.json").read_text())
    assert record["utterances"] == 14


def test_interrupted_equals_uninterrupted(run_recipe, teacher_options, tmp_path, monkeypatch):
    """Crops, masks, noise and dropout are keyed, so a resumed run repeats the whole one."""
    whole = run_recipe("teacher", "mini_base", tmp_path / "whole", **teacher_options)
    interrupt_after(monkeypatch, MaskedPredictionBrain, steps=4)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(
            "teacher", "mini_base", tmp_path / "cut", **teacher_options, ckpt_interval_steps=1
        )
    monkeypatch.undo()
    resumed = run_recipe("teacher", "mini_base", tmp_path / "cut", **teacher_options)
    for one, other in zip(whole, resumed, strict=True):
        for part in ("train", "valid"):
            assert one[part] == pytest.approx(other[part], rel=1e-6)
    first, second = (load_encoder(tmp_path / run / "export") for run in ("whole", "cut"))
    assert weights_hash(first) == weights_hash(second)
    # a finished run only exports again
    assert run_recipe("teacher", "mini_base", tmp_path / "cut", **teacher_options) == resumed


def interrupt_after(monkeypatch, brain, steps):
    """Raise KeyboardInterrupt at the start of the batch after `steps` of them."""
    start, count = brain.on_fit_batch_start, [0]

    def counted(self, batch, should_step):
        if count[0] == steps:
            raise KeyboardInterrupt
        count[0] += 1
        start(self, batch, should_step)

    monkeypatch.setattr(brain, "on_fit_batch_start", counted)


def test_too_little_speech_says_so(run_recipe, teacher_options, tmp_path):
    with pytest.raises(ValueError, match="batch_size"):
        options = {**teacher_options, "batch_size": 64}
        run_recipe("teacher", "mini_base", tmp_path / "run", **options)


def test_without_speech_it_says_what_to_give(run_recipe, teacher_options, tmp_path):
    options = {**teacher_options, "data_folder": ""}
    with pytest.raises(ValueError, match="--data_folder"):
        run_recipe("teacher", "mini_base", tmp_path / "run", **options)
