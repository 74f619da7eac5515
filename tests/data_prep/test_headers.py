"""Headers agree with the decoder, bad files are named, and it is fast."""

import os
import struct
import time

import numpy as np
import pytest
import soundfile as sf
from corpus_trees import GIT_LFS_POINTER, wav_header, write_sparse_wav, write_tone

from data_prep import headers as headers_module
from data_prep.headers import find_audio, identical_files, read_header, read_headers, verify_file


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_U8", "FLOAT", "ULAW", "IMA_ADPCM"])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav_headers_equal_soundfile(tmp_path, subtype, channels):
    path = write_tone(tmp_path / "a.wav", 0.5, 22050, channels, subtype=subtype)
    info, header = sf.info(path), read_header(path)
    assert (header.frames, header.sample_rate, header.channels, header.problem) == (
        info.frames,
        info.samplerate,
        info.channels,
        "",
    )
    assert header.duration == pytest.approx(info.frames / 22050)


@pytest.mark.parametrize("extension", ["flac", "ogg", "mp3", "aiff"])
def test_other_formats(tmp_path, extension):
    path = write_tone(tmp_path / f"a.{extension}", 0.5)
    assert read_header(path).frames == sf.info(path).frames > 7000


def test_chunks_before_the_data_are_skipped(tmp_path):
    whole = wav_header(3200)
    junk = struct.pack("<4sI", b"LIST", 1001) + bytes(1002)  # odd sizes are padded
    path = tmp_path / "a.wav"
    path.write_bytes(whole[:36] + junk + whole[36:] + bytes(3200))
    assert read_header(path).frames == 1600 == sf.info(path).frames


def test_streamed_wav_of_unknown_length(tmp_path):
    path = tmp_path / "piped.wav"
    path.write_bytes(wav_header(0xFFFFFFFF) + bytes(3200))
    assert read_header(path) == read_header(path)._replace(frames=1600, problem="")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty file"),
        (GIT_LFS_POINTER.encode(), "git lfs pull"),
        (b"\x00\x05\x16\x07" + bytes(100), "AppleDouble"),
        (wav_header(3200) + bytes(1000), "truncated: 500 of 1600 samples"),
        (wav_header(0), "no sample"),
        (wav_header(3200)[:40], "no data chunk"),
        (b"<html>404</html>", "unreadable"),
    ],
)
def test_bad_files_are_named_not_raised(tmp_path, content, says):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    assert says in read_header(path).problem
    assert says in verify_file(path).problem


def test_verify_finds_what_headers_cannot(tmp_path):
    write_tone(tmp_path / "good.flac", 1.0)
    whole = (tmp_path / "good.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    sf.write(tmp_path / "silent.wav", np.full(8000, 0.25), 16000)  # constant is silent too
    sf.write(tmp_path / "nan.wav", np.full(8000, np.nan), 16000, subtype="FLOAT")
    (tmp_path / "same.flac").write_bytes(whole)
    paths = ["cut.flac", "good.flac", "nan.wav", "same.flac", "silent.wav"]
    assert not any(header.problem for header in read_headers(tmp_path, paths))
    cut, good, nan, same, silent = headers = read_headers(tmp_path, paths, verify=True)
    assert not good.problem and good.peak > 0.1
    assert "truncated" in cut.problem or "unreadable" in cut.problem
    assert "not finite" in nan.problem
    assert silent.problem.startswith("silent")
    assert identical_files(paths, headers) == [("good.flac", "same.flac")]


def test_find_audio_is_sorted_and_survives_link_loops(tmp_path):
    for name in ("b/x.wav", "a/Y.WAV", "a/._Y.wav", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    os.symlink(tmp_path, tmp_path / "a" / "loop")
    os.symlink(tmp_path / "gone.wav", tmp_path / "a" / "dead.wav")
    files, left_out = find_audio(tmp_path)
    assert [file.path for file in files] == ["a/Y.WAV", "b/x.wav"]
    assert [name for name, _ in left_out] == ["a/._Y.wav", "a/dead.wav"]


def test_two_thousand_wavs_a_second(tmp_path):
    for i in range(3000):
        write_sparse_wav(tmp_path / f"{i:05d}.wav")
    files, _ = find_audio(tmp_path)
    paths = [file.path for file in files]
    best = min(_seconds(tmp_path, paths) for _ in range(3))
    assert len(paths) / best > 2000


def _seconds(root, paths):
    start = time.perf_counter()
    assert all(header.frames == 4800 for header in read_headers(root, paths, workers=1))
    return time.perf_counter() - start


@pytest.mark.parametrize("waiting", [0.0, 1e9])
def test_headers_come_in_order_from_a_fast_disk_and_a_slow_one(tmp_path, monkeypatch, waiting):
    monkeypatch.setattr(headers_module, "WAITING", waiting)
    names = [f"{number:03d}.wav" for number in range(200)]
    for number, name in enumerate(names):
        sf.write(tmp_path / name, np.zeros(100 + number), 16000)
    found = read_headers(tmp_path, names)
    assert [header.frames for header in found] == [100 + number for number in range(200)]
