"""RAVDESS: both layouts, codes, actor subsets, folds."""

import json

import pytest
from corpus_trees import ravdess_names, write_sparse_wav

from data_prep.manifest import read_manifest
from data_prep.preparation import PreparationError
from data_prep.ravdess_prepare import COUNTS, main, prepare_ravdess


def plant(root, names, inner=""):
    for name in names:
        write_sparse_wav(root / inner / f"Actor_{name[-2:]}" / f"{name}.wav", 0.1, 48000)


@pytest.mark.parametrize("inner", ["", "Audio_Speech_Actors_01-24"])
def test_full_corpus(tmp_path, inner):
    plant(tmp_path / "data", ravdess_names(), inner)
    prepared = prepare_ravdess(tmp_path / "data", tmp_path / "out")
    summary = json.loads(prepared.summary.read_text())
    assert summary["status"] == "full" and summary["clips"] == 1440
    assert summary["classes"] == dict(sorted(COUNTS.items()))
    assert not summary["left_out"]
    tests = [sorted(set(read_manifest(fold.test)["speaker"])) for fold in prepared.folds]
    assert len(tests) == 6 and tests[0] == ["01", "02", "03", "04"]


def test_subset_is_partial_and_names_what_lacks(tmp_path):
    names = [name for name in ravdess_names(range(1, 7))]
    plant(tmp_path / "data", names[1:])
    with pytest.raises(PreparationError, match="allow_partial"):
        prepare_ravdess(tmp_path / "data", tmp_path / "out")
    prepared = prepare_ravdess(tmp_path / "data", tmp_path / "out", allow_partial=True)
    summary = json.loads(prepared.summary.read_text())
    left_out = {entry["name"] for entry in summary["left_out"]}
    assert summary["status"] == "partial" and summary["clips"] == 359
    assert left_out == {f"Actor_01/{names[0]}", *(f"Actor_{a:02d}" for a in range(7, 25))}
    assert len(prepared.folds) == 6


def test_actors_can_be_chosen(tmp_path):
    plant(tmp_path / "data", ravdess_names())
    arguments = ["--data_folder", str(tmp_path / "data"), "--save_folder", str(tmp_path / "out")]
    assert main([*arguments, "--actors", "1", "2", "3", "4", "5", "6", "--allow_partial"]) == 0
    frame = read_manifest(tmp_path / "out" / "manifest.csv")
    assert sorted(set(frame["speaker"])) == ["01", "02", "03", "04", "05", "06"]


def test_songs_are_left_out_by_name(tmp_path):
    plant(tmp_path / "data", ravdess_names())
    song = tmp_path / "data" / "Actor_01" / "03-02-05-01-01-01-01.wav"
    write_sparse_wav(song)
    prepared = prepare_ravdess(tmp_path / "data", tmp_path / "out")
    (entry,) = json.loads(prepared.summary.read_text())["left_out"]
    assert entry == {"name": f"Actor_01/{song.name}", "reason": "song, not speech"}


def test_real_actors(test_data, tmp_path):
    prepared = prepare_ravdess(test_data / "ravdess", tmp_path, allow_partial=True)
    summary = json.loads(prepared.summary.read_text())
    assert (summary["clips"], len(summary["speakers"])) == (716, 12)
    frame = read_manifest(prepared.manifest)
    assert set(frame["duration"].round(3)) == {2.389}
    given = {}
    for line in (test_data / "ravdess" / "manifest.csv").read_text().splitlines()[1:]:
        file, speaker, _, emotion = line.split(",")[:4]
        given[f"$data_root/{file}"] = (speaker, emotion)
    columns = frame[["wav", "speaker", "emotion"]].itertuples(index=False)
    assert {wav: (speaker, emotion) for wav, speaker, emotion in columns} == given
