"""The reference waveform and the comparison with the stored answer."""

import pytest
import torch
from exported_model import build_export
from speechbrain.inference.classifiers import EncoderClassifier

from vesper_lobes.export import load_classifier, read_description
from vesper_lobes.self_check import answer_to_reference, check_answer, reference_waveform

PINS = {100: -0.0017416, 777: 0.1964609, 9999: 0.0596326}  # sample: value


def test_the_waveform_is_fixed_and_usable():
    wav = reference_waveform()
    assert wav.shape == (1, 12800) and wav.dtype == torch.float32
    assert 0.2 < wav.abs().max() < 1 and wav.std() > 0.05
    for index, value in PINS.items():  # stored answers hang on every sample: never change it
        assert wav[0, index].item() == pytest.approx(value, abs=1e-6)


def test_the_stored_answer_is_met_with_much_room(tmp_path, tiny_config):
    folder = build_export(tmp_path / "model", tiny_config("wavlm_base"))
    stored = read_description(folder)["self_check"]
    ours = load_classifier(folder, "cpu")
    brain = EncoderClassifier.from_hparams(source=str(folder), run_opts={"device": "cpu"})
    for parts in (
        (ours.embedding_model, ours.classifier),
        (brain.mods.embedding_model, brain.mods.classifier),
    ):
        answer = answer_to_reference(*parts)
        assert len(stored["embedding"]) == 32 and len(stored["log_probabilities"]) == 4
        for name, values in stored.items():
            assert torch.allclose(torch.tensor(answer[name]), torch.tensor(values), atol=1e-5)


@pytest.mark.parametrize("name", ["embedding", "log_probabilities"])
def test_another_answer_is_refused(tmp_path, tiny_config, name):
    folder = build_export(tmp_path / "model", tiny_config())
    ours = load_classifier(folder, "cpu")
    stored = read_description(folder)["self_check"]
    values = stored[name]
    for wrong in ([1.01 * x for x in values], values[:-1], [float("nan")] * len(values)):
        with pytest.raises(RuntimeError, match=name):
            check_answer(ours.embedding_model, ours.classifier, {**stored, name: wrong}, folder)
