"""CREMA-D: counts, the stratified split, folds by actor and sex, doubtful clips, votes."""

import csv
import json

import numpy as np
import pytest
import soundfile as sf
from corpus_trees import cremad_names, write_sparse_wav, write_tone

from data_prep.cremad_prepare import COUNTS, REMARKS, SILENT, WOMEN, main, prepare_cremad
from data_prep.manifest import read_manifest
from data_prep.preparation import PreparationError


@pytest.fixture(scope="module")
def full_tree(tmp_path_factory):
    """The real names, where they are at hand; else invented ones with the same counts."""
    root = tmp_path_factory.mktemp("cremad")
    for name in cremad_names():
        write_sparse_wav(root / "AudioWAV" / f"{name}.wav", 0.5)
    return root


def check_full(prepared_a, prepared_b):
    summary = json.loads(prepared_b.summary.read_text())
    frame = read_manifest(prepared_b.manifest)
    assert summary["clips"] == len(frame)
    (fold,) = prepared_a.folds
    train, dev, test = (read_manifest(path) for path in fold)
    assert dev.equals(test) and len(train) + len(test) == len(frame)
    expected = {emotion: round(0.2 * n) for emotion, n in frame["emotion"].value_counts().items()}
    assert test["emotion"].value_counts().to_dict() == expected
    for paths in prepared_b.folds:
        sets = [set(read_manifest(path)["speaker"]) for path in paths]
        assert sum(map(len, sets)) == len(set.union(*sets)) == 91
        for actors, size, women in zip(sets, (55, 18, 18), (26, 9, 9), strict=True):
            assert abs(len(actors) - size) <= 1
            assert abs(sum(int(actor) in WOMEN for actor in actors) - women) <= 1
    return summary


def test_invented_full_size_tree(full_tree, tmp_path):
    prepare = {p: prepare_cremad(full_tree, tmp_path, p, allow_partial=True) for p in "AB"}
    check_full(prepare["A"], prepare["B"])
    assert len(prepare["B"].folds) == 5 and len(WOMEN) == 43


def test_real_names(test_data, tmp_path):
    with open(test_data / "meta" / "cremad" / "cremad_lfs.csv") as file:
        clips = {row["name"]: float(row["duration"]) for row in csv.DictReader(file)}
    for name, seconds in clips.items():
        write_sparse_wav(tmp_path / "data" / "AudioWAV" / name, seconds)
    prepare = {p: prepare_cremad(tmp_path / "data", tmp_path / "out", p) for p in "AB"}
    summary = check_full(prepare["A"], prepare["B"])
    assert summary["status"] == "full" and summary["clips"] == 7442
    assert summary["classes"] == COUNTS and summary["hours"] == pytest.approx(5.257, abs=2e-3)
    assert summary["protocols"]["B"]["in_no_fold"] == sorted(REMARKS)
    assert summary["protocols"]["A"]["in_no_fold"] == []
    assert summary["remarks"] == REMARKS and len(REMARKS) == 7


def test_verify_keeps_the_known_silent_clip_and_finds_others(tmp_path):
    folder = tmp_path / "data" / "AudioWAV"
    for i, name in enumerate(("1001_DFA_ANG_XX", "1002_DFA_SAD_XX", "1003_DFA_SAD_XX")):
        write_tone(folder / f"{name}.wav", seed=i)
    for name in (SILENT, "1004_DFA_NEU_XX"):
        sf.write(folder / f"{name}.wav", np.zeros(8000), 16000)
    data, out = tmp_path / "data", tmp_path / "out"
    prepared = prepare_cremad(data, out, "A", allow_partial=True, verify=True)
    summary = json.loads(prepared.summary.read_text())
    assert SILENT in set(read_manifest(prepared.manifest)["ID"])
    assert [entry["name"] for entry in summary["left_out"]] == ["AudioWAV/1004_DFA_NEU_XX.wav"]
    assert summary["identical_files"] == [
        ["AudioWAV/1004_DFA_NEU_XX.wav", f"AudioWAV/{SILENT}.wav"]
    ]


def test_perceived_labels(full_tree, tmp_path):
    with pytest.raises(PreparationError, match="votes are not here"):
        prepare_cremad(full_tree, tmp_path / "out", labels="perceived")
    folder = tmp_path / "data"
    heard = [f"10{actor:02d}_DFA_ANG_XX" for actor in range(11, 16)]
    for name in ("1001_DFA_ANG_XX", "1002_DFA_SAD_XX", "1003_DFA_HAP_XX", *heard):
        write_sparse_wav(folder / "AudioWAV" / f"{name}.wav")
    votes = folder / "processedResults" / "summaryTable.csv"
    votes.parent.mkdir()
    votes.write_text(
        '"","FileName","VoiceVote","VoiceLevel"\n'
        '"1","1001_DFA_ANG_XX","N","60"\n"2","1002_DFA_SAD_XX","D:S","50"\n'
        + "".join(f'"3","{name}","N","60"\n' for name in heard)
    )
    prepared = prepare_cremad(folder, tmp_path / "out", "A", labels="perceived")
    assert read_manifest(prepared.manifest)["emotion"].tolist() == ["NEU"] * 6
    reasons = {e["name"]: e["reason"] for e in json.loads(prepared.summary.read_text())["left_out"]}
    assert reasons == {
        "AudioWAV/1002_DFA_SAD_XX.wav": "listeners' tie D:S",
        "AudioWAV/1003_DFA_HAP_XX.wav": "no votes of listeners",
    }


def test_command_refuses_superbs_protocol(full_tree, tmp_path, capsys):
    arguments = ["--data_folder", str(full_tree), "--save_folder", str(tmp_path)]
    assert main([*arguments, "--protocol", "C"]) == 1
    assert "IEMOCAP only" in capsys.readouterr().err
