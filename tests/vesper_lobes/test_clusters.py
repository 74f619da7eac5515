import pytest
import torch

from vesper_lobes.clusters import MfccClusters, MfccConfig, deltas, fit_clusters, mfcc
from vesper_lobes.lengths import n_frames


@pytest.mark.parametrize("samples", [400, 719, 720, 16000, 32000, 33333])
def test_one_label_for_each_frame_of_the_encoder(samples):
    features, frames = mfcc(torch.randn(1, samples), torch.tensor([samples]))
    assert features.shape == (1, n_frames(samples), 39)
    assert frames.tolist() == [n_frames(samples)]


def test_padding_changes_nothing():
    wavs = torch.randn(2, 16000)
    padded = wavs.clone()
    padded[1, 9000:] = 7.0
    together, frames = mfcc(padded, torch.tensor([16000, 9000]))
    alone, _ = mfcc(wavs[1:, :9000], torch.tensor([9000]))
    assert torch.allclose(together[1, : frames[1]], alone[0], atol=1e-4)
    config = MfccConfig(mean_norm=True)
    together, _ = mfcc(padded, torch.tensor([16000, 9000]), config)
    alone, _ = mfcc(wavs[1:, :9000], torch.tensor([9000]), config)
    assert torch.allclose(together[1, : frames[1]], alone[0], atol=1e-4)
    assert alone[0].mean(0).abs().max() < 1e-4


def test_differences_of_a_ramp_are_its_slope():
    ramp = torch.arange(10.0).view(1, 10, 1) * 3
    assert torch.allclose(deltas(ramp, torch.tensor([10]))[0, 2:8, 0], torch.tensor(3.0))


def test_mfcc_against_torchaudio():
    """The same power spectrum, filters and DCT, up to its dither and its frame placing."""
    from torchaudio.functional import create_dct, melscale_fbanks

    from vesper_lobes.clusters import dct_matrix, mel_filters

    theirs = melscale_fbanks(257, 20.0, 8000.0, 40, 16000, mel_scale="htk")
    assert torch.allclose(mel_filters(40), theirs, atol=1e-4)
    assert torch.allclose(dct_matrix(40, 13), create_dct(13, 40, "ortho"), atol=1e-5)


def test_clusters_find_two_sounds_and_survive_a_file(tmp_path):
    time = torch.arange(16000) / 16000
    low, high = torch.sin(2 * torch.pi * 150 * time), torch.sin(2 * torch.pi * 3000 * time)
    low, high = (wav + 0.01 * torch.randn(16000) for wav in (low, high))
    clusters = fit_clusters([low, high], 2, MfccConfig(mean_norm=False))
    labels, _ = clusters(torch.stack([low, high]))
    assert (labels[0, 5:-5] == labels[0, 5]).all() and (labels[1, 5:-5] == labels[1, 5]).all()
    assert labels[0, 5] != labels[1, 5]
    clusters.save(tmp_path / "c.safetensors")
    again = MfccClusters.load(tmp_path / "c.safetensors")
    assert torch.equal(again(torch.stack([low, high]))[0], labels)
    assert again.config == clusters.config and list(tmp_path.iterdir()) == [
        tmp_path / "c.safetensors"
    ]


def test_too_little_speech_says_so():
    with pytest.raises(ValueError, match="too few"):
        fit_clusters([torch.randn(800), torch.randn(100)], 50)


def test_labels_do_not_depend_on_autocast():
    clusters = fit_clusters([torch.randn(16000)], 10)
    wavs = torch.randn(2, 16000)
    with torch.autocast("cpu", torch.bfloat16):
        half = clusters(wavs)[0]
    assert torch.equal(half, clusters(wavs)[0])
