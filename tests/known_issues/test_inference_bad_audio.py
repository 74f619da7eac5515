"""Empty, NaN and too-short audio get a label from SpeechBrain; here they get a ValueError."""

import pytest
import torch
from exported_model import build_export, speechlike, write_audio
from speechbrain.inference.classifiers import EncoderClassifier

from vesper_lobes.export import load_classifier


@pytest.fixture
def folder(tmp_path, tiny_config):
    return build_export(tmp_path / "model", tiny_config())


@pytest.fixture
def brain(folder):
    return EncoderClassifier.from_hparams(source=str(folder), run_opts={"device": "cpu"})


def with_nan():
    wav = speechlike(1.0)
    wav[5000] = float("nan")
    return wav


CASES = {
    "empty": (torch.zeros(0), "empty"),
    "nan": (with_nan(), "NaN"),
    "infinite": (with_nan().nan_to_num(float("inf")), "infinite"),
    "short": (speechlike(399 / 16000), "too short.*399"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", ["classify_batch", "encode_batch"])
def test_speechbrain_batches(brain, case, method):
    wav, reason = CASES[case]
    with pytest.raises(ValueError, match=reason):
        getattr(brain, method)(wav.unsqueeze(0))
    with pytest.raises(ValueError, match=reason):
        getattr(brain, method)(wav)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rate", [16000, 8000])
def test_files(brain, folder, tmp_path, case, rate):
    wav, reason = CASES[case]
    if case == "short" and rate == 8000:
        wav, reason = wav[:199], "too short.*398"
    path = tmp_path / "a.wav"
    import soundfile

    soundfile.write(path, wav.numpy(), rate, subtype="FLOAT")
    with pytest.raises(ValueError, match=reason):
        brain.classify_file(str(path))
    with pytest.raises(ValueError, match=r"a\.wav"):
        load_classifier(folder, "cpu").classify(path)


@pytest.mark.parametrize("case", CASES)
def test_our_loader(folder, case):
    wav, reason = CASES[case]
    model = load_classifier(folder, "cpu")
    with pytest.raises(ValueError, match=f"waveform 1: .*{reason.split('.')[0]}"):
        model.classify([speechlike(), wav])
    with pytest.raises(ValueError):
        model.encode(wav)


def test_a_short_row_in_a_long_batch(brain):
    wavs = torch.stack([speechlike(1.0), speechlike(1.0, seed=1)])
    with pytest.raises(ValueError, match="row 1 has 160 samples"):
        brain.classify_batch(wavs, torch.tensor([1.0, 0.01]))
    with pytest.raises(ValueError, match="empty"):
        brain.classify_batch(wavs, torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="empty"):
        brain.classify_batch(wavs, torch.tensor([1.0, float("nan")]))


def test_the_shortest_audio_that_is_enough(brain, folder):
    wav = speechlike(400 / 16000)
    assert brain.classify_batch(wav)[0].isfinite().all()
    assert load_classifier(folder, "cpu").classify(wav).probabilities.isfinite().all()


def test_silence_is_audio(folder):
    predictions = load_classifier(folder, "cpu").classify(torch.zeros(16000))
    assert predictions.probabilities.isfinite().all()


def test_nothing_and_several_channels(folder, brain):
    model = load_classifier(folder, "cpu")
    with pytest.raises(ValueError, match="nothing to classify"):
        model.classify([])
    with pytest.raises(ValueError, match="mono"):
        model.classify(torch.zeros(1, 2, 16000))
    with pytest.raises(ValueError, match="mono"):
        brain.classify_batch(torch.zeros(1, 16000, 2))


def test_a_file_that_is_not_there(folder, tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        load_classifier(folder, "cpu").classify(tmp_path / "gone.wav")
    write_audio(tmp_path / "here.wav", speechlike())
    with pytest.raises(ValueError, match="gone.wav"):
        load_classifier(folder, "cpu").classify([tmp_path / "here.wav", tmp_path / "gone.wav"])
