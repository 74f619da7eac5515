"""MELD: the csv leads, ids carry the split, videos become wavs, bad clips are named."""

import csv
import json
import shutil
import subprocess

import numpy as np
import pytest
import soundfile as sf
from corpus_trees import MELD_FOLDERS as FOLDERS
from corpus_trees import plant_meld_labels as plant_labels
from corpus_trees import write_sparse_wav, write_tone

from data_prep.manifest import read_manifest
from data_prep.meld_prepare import COUNTS, extract, find_ffmpeg, main, prepare_meld
from data_prep.preparation import PreparationError


@pytest.fixture
def ffmpeg():
    program = find_ffmpeg()
    if not program:
        pytest.skip("no ffmpeg: pip install imageio-ffmpeg")
    return program


@pytest.fixture
def small(tmp_path):
    """Two utterances with the same numbers in every split; labels only."""
    root = tmp_path / "MELD.Raw"
    rows = [
        (split, 0, u, speaker, emotion)
        for split in FOLDERS
        for u, (speaker, emotion) in enumerate((("Ross", "joy"), ("Monica", "anger")))
    ]
    plant_labels(root, rows)
    return root


def plant_video(ffmpeg, path, seconds=0.5, channels=6):
    tone = write_tone(path.with_suffix(".tmp.wav"), seconds, 48000, channels)
    sound = ["-i", str(tone), "-f", "lavfi", "-i", f"color=size=16x16:duration={seconds}"]
    codecs = ["-c:a", "aac", "-b:a", "64k", "-shortest", str(path)]
    subprocess.run([ffmpeg, "-v", "error", "-y", *sound, *codecs], check=True)
    tone.unlink()


def test_ready_wavs_need_no_ffmpeg(small, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    for folder in FOLDERS.values():
        for u in (0, 1):
            write_sparse_wav(small / folder / f"dia0_utt{u}.wav", 1 + u)
    write_sparse_wav(small / FOLDERS["test"] / "final_videos_testdia0_utt0.wav")
    write_sparse_wav(small / FOLDERS["test"] / "dia9_utt9.wav")
    prepared = prepare_meld(small, tmp_path / "out", allow_partial=True)
    frame = read_manifest(prepared.manifest).set_index("ID")
    assert len(frame) == 6 and frame.loc["dev_dia0_utt1", "split"] == "dev"
    assert frame.loc["test_dia0_utt0", "wav"].endswith("output_repeated_splits_test/dia0_utt0.wav")
    summary = json.loads(prepared.summary.read_text())
    assert {entry["name"].rpartition("/")[2] for entry in summary["left_out"]} == {
        "final_videos_testdia0_utt0.wav",
        "dia9_utt9.wav",
    }
    (fold,) = prepared.folds
    assert set(read_manifest(fold.dev)["dialogue"]) == {"dev_dia0"}
    assert "fold 1: train and test share 2 speakers" in summary["protocols"]["B"]["warnings"]


def test_videos_become_mono_wavs_and_the_run_resumes(small, tmp_path, ffmpeg):
    for folder in FOLDERS.values():
        for u, channels in enumerate((2, 6)):
            plant_video(ffmpeg, make(small / folder) / f"dia0_utt{u}.mp4", 0.5, channels)
    prepared = prepare_meld(small, tmp_path / "out", ffmpeg=ffmpeg, allow_partial=True)
    frame = read_manifest(prepared.manifest, data_root=small)
    assert frame["duration"].between(0.45, 0.6).all() and len(frame) == 6
    sound, rate = sf.read(frame["wav"][0])
    assert rate == 16000 and sound.ndim == 1 and np.abs(sound).max() > 0.05
    made = {path: path.stat().st_mtime_ns for path in (small / "audio_16k").rglob("*.wav")}
    next(iter(made)).unlink()
    gone, *kept = made
    names = set(read_manifest(prepared.manifest)["ID"])
    assert extract(small, names, ffmpeg) == {}
    assert gone.is_file() and all(made[path] == path.stat().st_mtime_ns for path in kept)


def make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_videos_without_ffmpeg_say_so(small, tmp_path, monkeypatch):
    (make(small / FOLDERS["dev"]) / "dia0_utt0.mp4").write_bytes(b"x")
    monkeypatch.setattr("data_prep.meld_prepare.find_ffmpeg", lambda: None)
    with pytest.raises(PreparationError, match="ffmpeg is not installed(.|\n)*imageio-ffmpeg"):
        prepare_meld(small, tmp_path / "out")


def test_without_csv(tmp_path, capsys):
    assert main(["--data_folder", str(tmp_path), "--save_folder", str(tmp_path)]) == 1
    assert "no train_sent_emo.csv" in capsys.readouterr().err


def test_full_real_lists(test_data, tmp_path):
    root = tmp_path / "MELD.Raw"
    make(root)
    for split in FOLDERS:
        shutil.copy(test_data / "meta" / "meld" / f"{split}_sent_emo.csv", root)
    with open(test_data / "meta" / "meld" / "meld_lengths.csv") as file:
        for row in csv.DictReader(file):
            name = f"dia{row['dialogue']}_utt{row['utterance']}.wav"
            seconds = float(row["mp4_length_emobox"])
            write_sparse_wav(root / FOLDERS[row["split"]] / name, seconds)
    prepared = prepare_meld(root, tmp_path / "out")
    summary = json.loads(prepared.summary.read_text())
    assert summary["status"] == "full" and summary["clips"] == 13706
    assert summary["classes"] == dict(sorted(COUNTS.items()))
    assert summary["splits"] == {"dev": 1108, "test": 2610, "train": 9988}
    assert [entry["name"] for entry in summary["left_out"]] == [
        "dev_dia110_utt7",
        "train_dia125_utt3",
    ]
    remarks = summary["remarks"]
    assert sum(text.startswith("very short") for text in remarks.values()) == 14
    assert {"test_dia38_utt4", "test_dia220_utt0", "train_dia309_utt0"} < set(remarks)
    (fold,) = prepared.folds
    train, test = (set(read_manifest(path)["speaker"]) for path in (fold.train, fold.test))
    assert len(train & test) == 69
