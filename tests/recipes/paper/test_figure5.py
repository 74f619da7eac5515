"""Figure 5: the masks that pretraining would draw, for any recording, and the command that did."""

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

sys.path.append(str(Path(__file__).resolve().parents[3] / "recipes" / "paper"))
import figure5
from figure5 import main, make, masked

from vesper_lobes.audio import read_audio
from vesper_lobes.lengths import n_frames
from vesper_lobes.masker import HIGH, LOW, NOISE, STRATEGIES


@pytest.fixture
def wav(tmp_path):
    """Two seconds of loud, soft and silent stretches, at a rate of its own."""
    time = np.arange(2 * 22050) / 22050
    level = np.clip(np.sin(2 * np.pi * 2.5 * time), 0.02, 1) * np.exp(-0.6 * time)
    path = tmp_path / "some speech.wav"
    soundfile.write(path, 0.5 * level * np.sin(2 * np.pi * 200 * time), 22050)
    return path


def test_pictures_numbers_and_a_command_that_draws_them_again(wav, tmp_path, capsys, monkeypatch):
    out = tmp_path / "figures" / "figure5.png"
    assert main(["--wav", str(wav), "--out", str(out), "--seed", "3"]) == 0
    facts = json.loads(out.with_suffix(".json").read_text())
    svg = out.with_suffix(".svg").read_text()
    assert 0 < out.stat().st_size < 300_000 and svg.startswith("<svg") and "var(--ink)" in svg
    assert "phoneme: 8 centres hide" in capsys.readouterr().out
    assert str(tmp_path) not in out.with_suffix(".json").read_text() + svg
    words = shlex.split(facts["command"].replace("'/path/to/some speech.wav'", f"'{wav}'"))
    monkeypatch.chdir(tmp_path)
    assert main(words[2:]) == 0
    assert json.loads(Path("figure5.json").read_text()) == facts
    assert Path("figure5.svg").read_text() == svg
    assert Path("figure5.png").read_bytes() == out.read_bytes()


def test_centres_lie_in_their_zones_and_words_among_the_phonemes(wav):
    arrays, shares = masked(read_audio(wav), "x")
    centres = arrays["zones"][arrays["phoneme_centres"]]
    assert (centres == HIGH).sum() == (centres == LOW).sum() == 4 and not (centres == NOISE).any()
    assert set(arrays["word_centres"]) < set(arrays["phoneme_centres"])
    assert len(arrays["energy"]) == n_frames(len(arrays["wav"])) == 99
    assert shares["phoneme"] == pytest.approx(arrays["phoneme"].mean(), abs=1e-6)


def test_strategies_and_seeds(wav):
    samples = read_audio(wav)
    hidden = {s: masked(samples, "x", s)[1]["phoneme"] for s in STRATEGIES}
    assert hidden["random_matched"] == hidden["guided"] != hidden["random"]
    assert masked(samples, "x", seed=4)[1] != masked(samples, "x")[1]
    paper, _ = masked(samples, "x", positions="paper")
    assert (len(paper["phoneme_centres"]), len(paper["word_centres"])) == (20, 4)
    assert set(figure5.TITLES) == set(STRATEGIES)


def test_only_the_start_of_a_long_file_unless_told(wav, tmp_path):
    soundfile.write(tmp_path / "long.wav", np.tile(soundfile.read(wav)[0], 4), 22050)  # 8 s
    assert make(tmp_path / "long.wav", tmp_path / "a.png")["frames"] == 249
    assert make(tmp_path / "long.wav", tmp_path / "a.png", seconds=0)["frames"] == 399


def test_a_pattern_names_the_file_whatever_its_format(wav, tmp_path, capsys):
    assert make(f"{tmp_path}/some*.*", tmp_path / "b.png")["file"] == "some speech.wav"
    assert main(["--wav", f"{tmp_path}/*", "--out", str(tmp_path / "c.png")]) == 2
    assert "files fit; name one" in capsys.readouterr().err


def test_silence_is_drawn_and_what_cannot_be_is_refused(tmp_path, capsys):
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    assert make(tmp_path / "silent.wav", tmp_path / "a.png")["shares"]["noise"] == 1
    soundfile.write(tmp_path / "short.wav", np.zeros(300), 16000)
    assert main(["--wav", str(tmp_path / "short.wav"), "--out", str(tmp_path / "b.png")]) == 2
    assert "no frame" in capsys.readouterr().err and not (tmp_path / "b.png").exists()
    assert main(["--wav", str(tmp_path / "none.wav"), "--out", str(tmp_path / "b.png")]) == 2
    assert main(["--wav", str(tmp_path / "silent.wav"), "--out", str(tmp_path / "b.jpg")]) == 2
    assert "ends in .png" in capsys.readouterr().err
