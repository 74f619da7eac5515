"""SpeechBrain's ``classify_file(pathlib.Path)`` raises TypeError; our loader takes both."""

import pytest
import torch
from exported_model import build_export, speechlike, write_audio
from speechbrain.inference.classifiers import EncoderClassifier

from vesper_lobes.export import load_classifier


def test_paths_and_strings(tmp_path, tiny_config, monkeypatch):
    folder = build_export(tmp_path / "model", tiny_config())
    wav = write_audio(tmp_path / "a.wav", speechlike())
    brain = EncoderClassifier.from_hparams(source=folder, run_opts={"device": "cpu"})  # a Path
    expected = brain.classify_file(str(wav))[0].exp()
    with pytest.raises(TypeError):  # theirs, and why the model card says str(path)
        brain.classify_file(wav)
    for source in (folder, str(folder)):
        model = load_classifier(source, "cpu")
        for file in (wav, str(wav)):
            assert torch.allclose(model.classify(file).probabilities, expected, atol=1e-6)
    monkeypatch.chdir(tmp_path)
    assert torch.allclose(brain.classify_file("a.wav")[0].exp(), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "model"]  # no links made
