"""EmoBox: both forms of its metadata, its folds as protocol E, audio wherever it lies."""

import csv
import json
from collections import Counter

import pytest
from corpus_trees import write_sparse_wav

from data_prep.emobox_prepare import main, match_files, prepare_emobox
from data_prep.folds import ProtocolError
from data_prep.manifest import read_manifest
from data_prep.preparation import PreparationError


@pytest.fixture
def cafe(tmp_path):
    """A corpus of 40 entries in EmoBox's jsonl form, two folds, no valid set, and its audio."""
    meta = tmp_path / "data" / "cafe"
    entries = [
        {
            "key": f"cafe-{s:02d}-{e}-{u}",
            "dataset": "cafe",
            "wav": f"downloads/cafe/CaFE_48k/{e}/{s:02d}-{e}-{u}.wav",
            "sample_rate": 48000,
            "length": 0.5,
            "emo": e,
        }
        for s in range(5)
        for e in "jt"
        for u in range(4)
    ]
    write_lines(meta / "cafe.jsonl", entries)
    for k in (1, 2):
        test = [e for i, e in enumerate(entries) if i % 4 == k]
        train = [e for e in entries if e not in test]
        for name, members in (("train", train), ("test", test)):
            write_lines(meta / f"fold_{k}" / f"cafe_{name}_fold_{k}.jsonl", members)
    (meta / "label_map.json").write_text('{"j": "Happy", "t": "Sad"}')
    for entry in entries:
        write_sparse_wav(tmp_path / "audio" / entry["wav"].partition("cafe/")[2], 0.5, 48000)
    return meta


def write_lines(path, entries):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def test_jsonl_form(cafe, tmp_path):
    prepared = prepare_emobox(tmp_path / "audio", tmp_path / "out", cafe)
    frame = read_manifest(prepared.manifest)
    assert Counter(frame["emotion"]) == {"Happy": 20, "Sad": 20}
    for fold in prepared.folds:
        assert [len(read_manifest(path)) for path in fold] == [24, 6, 10]
    summary = json.loads(prepared.summary.read_text())
    assert "speakers unknown" in summary["protocols"]["E"]["warnings"][0]


def test_shared_speakers_are_warned_of_and_b_is_refused(cafe, tmp_path):
    arguments = (tmp_path / "audio", tmp_path / "out", cafe)
    prepared = prepare_emobox(*arguments, speaker_regex=r"cafe-(\d\d)")
    summary = json.loads(prepared.summary.read_text())
    assert summary["protocols"]["E"]["warnings"][0] == "fold 1: train and test share 5 speakers"
    with pytest.raises(ProtocolError, match="no protocol 'B'"):
        prepare_emobox(*arguments, protocol="B")


def test_segments_of_one_file(cafe, tmp_path):
    lines = [json.loads(line) for line in (cafe / "cafe.jsonl").read_text().splitlines()]
    for i, entry in enumerate(lines[:2]):
        entry.update(wav=lines[0]["wav"], start_time=0.2 * i, end_time=0.2 * (i + 1))
    write_lines(cafe / "cafe.jsonl", lines)
    frame = read_manifest(prepare_emobox(tmp_path / "audio", tmp_path / "out", cafe).manifest)
    assert frame["stop"].tolist()[:3] == [9600, 19200, -1]
    assert frame["duration"].tolist()[:2] == [0.2, 0.2]


def test_missing_audio_and_metadata(cafe, tmp_path):
    next((tmp_path / "audio").rglob("*.wav")).unlink()
    with pytest.raises(PreparationError, match="39 usable"):
        prepare_emobox(tmp_path / "audio", tmp_path / "out", cafe)
    prepared = prepare_emobox(tmp_path / "audio", tmp_path / "out", cafe, allow_partial=True)
    (entry,) = json.loads(prepared.summary.read_text())["left_out"]
    assert entry["reason"].startswith("listed by EmoBox")
    with pytest.raises(PreparationError, match="no such metadata"):
        prepare_emobox(tmp_path / "audio", tmp_path / "out", tmp_path / "none")
    (cafe / "label_map.json").unlink()
    command = ["--data_folder", str(tmp_path / "audio"), "--save_folder", str(tmp_path / "out")]
    assert main([*command, "--metadata", str(cafe)]) == 1


def test_bare_names_match_only_where_unique():
    listed = ["dev/dia0_utt0.mp4", "test/dia0_utt0.mp4", "x/y/one.wav"]
    assert match_files(listed, ["dia0_utt0.wav", "one.flac"]) == {"x/y/one.wav": "one.flac"}
    both = match_files(listed, ["a.wav", "dev/dia0_utt0.wav"])
    assert both == {"dev/dia0_utt0.mp4": "dev/dia0_utt0.wav"}


@pytest.mark.parametrize("corpus", ["emodb", "ravdess", "cremad", "iemocap", "meld"])
def test_real_metadata(test_data, tmp_path, corpus):
    metadata = test_data / "meta" / "emobox" / f"{corpus}.csv"
    with open(metadata, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        path = (tmp_path / "audio" / row["file"]).with_suffix(".wav")
        write_sparse_wav(path, float(row["length"]))
    prepared = prepare_emobox(tmp_path / "audio", tmp_path / "out", metadata)
    frame = read_manifest(prepared.manifest)
    assert len(frame) == len(rows)
    number = sum(name.startswith("fold") for name in rows[0])
    assert len(prepared.folds) == number
    for k, fold in enumerate(prepared.folds, start=1):
        tests = {row["key"] for row in rows if row[f"fold{k}"] == "test"}
        assert set(read_manifest(fold.test)["ID"]) == tests
    warnings = json.loads(prepared.summary.read_text())["protocols"]["E"]["warnings"]
    shared = {"emodb": 10, "cremad": 91}.get(corpus)  # those two share every speaker with test
    assert (f"fold 1: train and test share {shared} speakers" in warnings) == (shared is not None)
