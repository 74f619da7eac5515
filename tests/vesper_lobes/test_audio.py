"""Reading audio: formats, parts, rates, channels, and every file that must be refused."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from vesper_lobes.audio import crop_or_keep, read_audio

RATE = 16000


def tone(seconds=0.5, rate=RATE, hertz=440.0):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def written(folder, samples, rate=RATE, name="clip.wav", **options):
    path = Path(folder) / name
    soundfile.write(path, samples, rate, **options)
    return path


def test_wav_round_trip_is_float32_mono(tmp_path):
    path = written(tmp_path, tone(), subtype="FLOAT")
    wav = read_audio(path)
    assert wav.dtype == torch.float32 and wav.shape == (8000,)
    np.testing.assert_allclose(wav.numpy(), tone(), atol=1e-7)
    assert torch.equal(wav, read_audio(str(path)))  # str and Path


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_formats(tmp_path, kind):
    wav = read_audio(written(tmp_path, tone(), name=f"clip.{kind}"))
    spectrum = np.abs(np.fft.rfft(wav[2000:6000].numpy()))
    assert np.argmax(spectrum) * RATE / 4000 == pytest.approx(440, abs=4)


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_part_equals_slice(tmp_path, kind):
    path = written(tmp_path, tone(), name=f"clip.{kind}")
    whole = read_audio(path)
    assert torch.equal(read_audio(path, 1000, 3000), whole[1000:3000])
    assert torch.equal(read_audio(path, 7000), whole[7000:])


def test_start_and_stop_are_at_the_files_own_rate(tmp_path):
    path = written(tmp_path, tone(1.0, 8000), 8000)
    assert read_audio(path, 2000, 6000).shape == (8000,)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_keeps_pitch_and_level(tmp_path, rate):
    wav = read_audio(written(tmp_path, tone(1.0, rate), rate, subtype="FLOAT")).numpy()
    assert len(wav) == pytest.approx(RATE, abs=1)
    np.testing.assert_allclose(wav[800:15000], tone(1.0)[800:15000], atol=5e-3)


def test_stereo_is_mixed(tmp_path):
    both = np.stack([tone(), np.zeros(8000)], axis=1)
    wav = read_audio(written(tmp_path, both, subtype="FLOAT"))
    np.testing.assert_allclose(wav.numpy(), tone() / 2, atol=1e-7)


def bad_files(folder):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 9\n"
    texts = {"pointer.wav": pointer, "text.wav": "not audio " * 100, "void.wav": ""}
    for name, text in texts.items():
        (folder / name).write_text(text)
    written(folder, np.zeros(0), name="empty.wav")
    written(folder, np.full(800, np.nan), name="nan.wav", subtype="FLOAT")
    written(folder, np.full(800, np.inf), name="inf.wav", subtype="FLOAT")
    whole = written(folder, tone(), name="whole.flac").read_bytes()
    (folder / "half.flac").write_bytes(whole[: len(whole) // 2])
    (folder / "folder.wav").mkdir()


@pytest.mark.parametrize(
    "name, reason",
    [
        ("pointer.wav", "git-lfs"),
        ("text.wav", "cannot be read"),
        ("void.wav", "empty file"),
        ("empty.wav", "0 samples"),
        ("nan.wav", "NaN or infinite"),
        ("inf.wav", "NaN or infinite"),
        ("half.flac", "cut short|cannot be read"),
        ("missing.wav", "no such file"),
        ("folder.wav", "no such file"),
    ],
)
def test_refused_files_are_named(tmp_path, name, reason):
    bad_files(tmp_path)
    with pytest.raises(ValueError, match=reason) as caught:
        read_audio(tmp_path / name)
    assert name in str(caught.value)


@pytest.mark.parametrize("start, stop", [(-5, -1), (8000, -1), (100, 100), (0, 8001), (9000, 9001)])
def test_part_outside_the_file_is_refused(tmp_path, start, stop):
    path = written(tmp_path, tone())
    with pytest.raises(ValueError, match="asked for"):
        read_audio(path, start, stop)


def test_crops():
    wav = torch.arange(100.0)
    assert torch.equal(crop_or_keep(wav, None), wav)
    assert torch.equal(crop_or_keep(wav, 200, sample_rate=1), wav)
    assert torch.equal(crop_or_keep(wav, 30, sample_rate=1), wav[:30])
    assert torch.equal(crop_or_keep(wav, 30, "centre", 1), wav[35:65])
    draws = {
        int(crop_or_keep(wav, 98, "random", 1, torch.Generator().manual_seed(seed))[0])
        for seed in range(40)
    }
    assert draws == {0, 1, 2}
    with pytest.raises(ValueError, match="unknown"):
        crop_or_keep(wav, 3, "last")
    with pytest.raises(ValueError, match="no samples"):
        crop_or_keep(wav, 0)


def test_real_clips_read_at_their_manifest_length(test_data):
    lines = (test_data / "emodb4" / "manifest.csv").read_text().splitlines()
    columns = lines[0].split(",")
    for line in lines[1:6]:
        row = dict(zip(columns, line.split(","), strict=True))
        assert read_audio(test_data / "emodb4" / row["file"]).shape == (int(row["frames"]),)
