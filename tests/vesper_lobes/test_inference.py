"""The modules of an exported folder: long audio, refusals, and the classifier's inputs."""

import numpy as np
import pytest
import torch
from exported_model import CLASSES, build_export, build_parts, speechlike, write_audio

from vesper_lobes.export import load_classifier
from vesper_lobes.inference import EmbeddingModel, LogProbabilities, MonoResampler
from vesper_lobes.long_audio import pool_long
from vesper_lobes.pooling import masked_mean


def embedding_model(config, **options):
    encoder, mix, _ = build_parts(config)
    model = EmbeddingModel(config.num_hidden_layers + 1, **options).eval()
    model.set_encoder(encoder)
    model.load_mix(mix.state_dict(), "here")
    return model, encoder, mix


@torch.no_grad()
def test_a_short_utterance_is_the_plain_mean_of_mixed_states(tiny_config):
    model, encoder, mix = embedding_model(tiny_config(), crop_seconds=2.0)
    wav = speechlike(1.5).unsqueeze(0)
    states, lengths = encoder(wav)
    expected = masked_mean(mix(states), lengths)
    assert torch.allclose(model(wav).squeeze(1), expected, atol=1e-6)


@torch.no_grad()
def test_long_audio_is_the_frame_weighted_mean_of_equal_pieces(tiny_config):
    model, encoder, mix = embedding_model(tiny_config(), crop_seconds=0.5)
    wav = speechlike(1.3).unsqueeze(0)  # three pieces of .43 s, none longer than .5 s
    pieces = wav[0].tensor_split(3)
    states = [encoder(piece.unsqueeze(0)) for piece in pieces]
    frames = torch.cat([mix(out.states)[0] for out in states])
    assert torch.allclose(model(wav)[0, 0], frames.mean(dim=0), atol=1e-6)


@torch.no_grad()
def test_first_hears_the_first_crop_only(tiny_config):
    model, *_ = embedding_model(tiny_config(), crop_seconds=0.5, long_audio="first")
    wav = speechlike(1.3).unsqueeze(0)
    changed = wav.clone()
    changed[:, 8000:] = 0.1
    assert torch.equal(model(wav), model(changed))
    assert torch.allclose(model(wav), model(wav[:, :8000]), atol=1e-6)


@torch.no_grad()
def test_more_pieces_than_one_pass_takes(tiny_config):
    model, *_ = embedding_model(tiny_config(), crop_seconds=0.1)
    wavs = torch.stack([speechlike(1.5, seed=i) for i in range(3)])
    together = model(wavs)
    for row in range(3):
        assert torch.allclose(together[row], model(wavs[row : row + 1])[0], atol=1e-5)


@torch.no_grad()
def test_without_a_crop_long_audio_is_heard_in_windows(tiny_config):
    model, encoder, mix = embedding_model(tiny_config())
    wavs = torch.zeros(3, 16000 * 35)
    for row, seconds in enumerate((2.0, 35.0, 31.0)):
        wavs[row, : round(16000 * seconds)] = speechlike(seconds, seed=row)
    together = model(wavs, torch.tensor([2.0, 35.0, 31.0]) / 35)
    for row, seconds in ((0, 2.0), (1, 35.0), (2, 31.0)):
        alone = model(wavs[row : row + 1, : round(16000 * seconds)])
        assert torch.allclose(together[row], alone[0], atol=1e-5)
    expected = mix(pool_long(encoder, wavs[1]).unsqueeze(0))[0]
    assert torch.allclose(together[1, 0], expected, atol=1e-6)
    assert model.how_heard(70.0) == "70 s, heard in windows of at most 30 s"
    assert model.how_heard(30.0) == ""


def test_no_weights_no_answer(tiny_config):
    model = EmbeddingModel(num_states=5)
    with pytest.raises(RuntimeError, match="no weights"):
        model(torch.zeros(1, 16000))
    with pytest.raises(RuntimeError, match="no weights"):
        LogProbabilities("superb", input_dim=4, num_classes=2)(torch.zeros(1, 1, 4))


def test_an_encoder_of_another_depth_is_refused(tiny_config):
    encoder, *_ = build_parts(tiny_config())
    with pytest.raises(ValueError, match="4 layers"):
        EmbeddingModel(num_states=7).set_encoder(encoder)


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="long_audio"):
        EmbeddingModel(num_states=5, long_audio="middle")
    with pytest.raises(ValueError, match="positive"):
        EmbeddingModel(num_states=5, crop_seconds=-1)
    with pytest.raises(ValueError, match="head"):
        LogProbabilities("magic")


def test_the_resampler_refuses_nothing_and_nan():
    normalizer = MonoResampler()
    assert normalizer(torch.ones(800, 2), 8000).shape == (1600,)
    with pytest.raises(ValueError, match="empty"):
        normalizer(torch.zeros(0, 1), 8000)
    with pytest.raises(ValueError, match="NaN"):
        normalizer(torch.full((800, 1), float("nan")), 8000)


@pytest.fixture
def model(tmp_path, tiny_config):
    return load_classifier(build_export(tmp_path / "model", tiny_config()), "cpu")


def test_inputs_of_every_kind_give_one_answer(model, tmp_path):
    wav = speechlike(1.0)
    expected = model.classify(wav).probabilities
    path = write_audio(tmp_path / "a.flac", wav)
    for same in (wav.unsqueeze(0), [wav], wav.numpy(), [wav.numpy().astype(np.float64)]):
        assert torch.allclose(model.classify(same).probabilities, expected, atol=1e-6)
    for file in (path, str(path), [path, str(path)]):  # 16-bit samples
        assert torch.allclose(model.classify(file).probabilities, expected, atol=1e-3)
    assert model.classes == CLASSES and model.encode(wav).shape == (1, 32)


def test_waveforms_of_another_rate_are_resampled(model, tmp_path):
    wav = speechlike(1.0, sample_rate=8000)
    expected = model.classify(write_audio(tmp_path / "a.wav", wav, 8000)).probabilities
    assert torch.allclose(model.classify(wav, sample_rate=8000).probabilities, expected, atol=1e-3)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_batch_size_changes_nothing(model, batch_size):
    wavs = [speechlike(s, seed=i) for i, s in enumerate((0.3, 1.1, 0.7, 0.05, 0.9))]
    expected = torch.cat([model.classify(wav).probabilities for wav in wavs])
    found = model.classify(wavs, batch_size=batch_size).probabilities
    assert torch.allclose(found, expected, atol=1e-5)


def test_integer_samples_are_refused(model):
    with pytest.raises(ValueError, match="float"):
        model.classify(np.zeros(16000, dtype=np.int16))
