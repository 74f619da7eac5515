"""Own data: folders, lists, csv and regex; labelled and not."""

import json

import pytest
from corpus_trees import write_sparse_wav, write_tone

from data_prep.folder_prepare import main, prepare_folder
from data_prep.folds import ProtocolError
from data_prep.manifest import read_manifest
from data_prep.preparation import PreparationError


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "mine"
    for speaker in ("ann", "bob", "cem", "dee", "eva"):
        for emotion in ("glad", "cross"):
            for take in (1, 2):
                write_sparse_wav(root / speaker / emotion / f"{take}.wav", 0.5)
    return root


def test_unlabelled_folder_is_a_pretraining_manifest(tree, tmp_path):
    write_tone(tree / "more.ogg")
    write_tone(tree / "more.wav")  # same stem: both stay
    prepared = prepare_folder(tree, tmp_path / "out")
    frame = read_manifest(prepared.manifest)
    assert len(frame) == 22 and prepared.folds == ()
    assert set(frame["emotion"]) == {""} and set(frame["corpus"]) == {"mine"}
    assert {"more.ogg", "more.wav", "ann/glad/1"} <= set(frame["ID"])


def test_labels_from_folders(tree, tmp_path):
    write_sparse_wav(tree / "stray.wav")
    prepared = prepare_folder(tree, tmp_path / "out", layout="speaker/emotion")
    frame = read_manifest(prepared.manifest)
    assert frame.groupby(["speaker", "emotion"]).size().tolist() == [2] * 10
    assert [set(read_manifest(f.test)["speaker"]) for f in prepared.folds][0] == {"ann"}
    (entry,) = json.loads(prepared.summary.read_text())["left_out"]
    assert entry["name"] == "stray.wav"


def test_labels_from_a_regex_renamed(tree, tmp_path):
    prepared = prepare_folder(
        tree,
        tmp_path / "out",
        regex=r"(?P<speaker>[a-z]+)/(?P<emotion>glad|cross)",
        labels={"glad": "happy"},
        num_folds=3,
    )
    frame = read_manifest(prepared.manifest)
    assert set(frame["emotion"]) == {"happy"} and len(frame) == 10
    assert json.loads(prepared.summary.read_text())["left_out_by_reason"] == {
        "emotion 'cross' is not among the labels asked for": 10
    }
    assert len(prepared.folds) == 3


def test_labels_from_a_csv_with_segments(tree, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text(
        "\ufeffclip,who,label,start,stop\r\n"
        "ann/glad/1.wav,a,glad,0,4000\r\n"
        "ann/glad/1.wav,a,cross,4000,8000\r\n"
        f"{tree}/bob/glad/1.wav,b,glad,,\r\n"
        "cem/glad/1.wav,c,glad,0,8000\r\n"
        "dee/glad/1.wav,d,glad,0,9000\r\n"
    )
    columns = {"wav": "clip", "speaker": "who"}
    prepared = prepare_folder(tree, tmp_path / "out", csv_file=table, columns=columns, num_folds=3)
    frame = read_manifest(prepared.manifest).set_index("ID")
    assert list(frame.index) == [
        "ann/glad/1-0-4000",
        "ann/glad/1-4000-8000",
        "bob/glad/1",
        "cem/glad/1-0-8000",
    ]
    assert frame["duration"].tolist() == [0.25, 0.25, 0.5, 0.5]
    assert frame["emotion"].tolist() == ["glad", "cross", "glad", "glad"]
    (entry,) = json.loads(prepared.summary.read_text())["left_out"]
    assert entry["reason"] == "stop 9000 is beyond its 8000 samples"


def test_given_split_is_the_only_fold_and_b_checks_it(tree, tmp_path):
    split = {"ann": "train", "bob": "train", "cem": "dev", "dee": "test", "eva": "test"}
    lines = ["wav,speaker,emotion,split"]
    for path in sorted(tree.rglob("*.wav")):
        speaker, emotion, name = path.parts[-3:]
        lines.append(f"{speaker}/{emotion}/{name},{speaker},{emotion},{split[speaker]}")
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(lines))
    (fold,) = prepare_folder(tree, tmp_path / "out", csv_file=table).folds
    assert set(read_manifest(fold.dev)["speaker"]) == {"cem"}
    table.write_text("\n".join(lines).replace("dee,cross,test", "dee,cross,train"))
    with pytest.raises(ProtocolError, match="dee"):
        prepare_folder(tree, tmp_path / "out", csv_file=table)
    prepared = prepare_folder(tree, tmp_path / "out", csv_file=table, protocol="A")
    warnings = json.loads(prepared.summary.read_text())["protocols"]["A"]["warnings"]
    assert warnings == ["fold 1: train and test share 1 speakers"]


def test_list_of_files(tree, tmp_path):
    listed = tmp_path / "files.txt"
    listed.write_text(f"ann/glad/1.wav\n\n{tree}/bob/glad/2.wav\nann/glad/1.wav\n")
    frame = read_manifest(prepare_folder(tree, tmp_path / "out", file_list=listed).manifest)
    assert frame["wav"].tolist() == ["$data_root/ann/glad/1.wav", "$data_root/bob/glad/2.wav"]
    listed.write_text("ann/glad/1.wav\nnone.wav\n/etc/hostname\n")
    with pytest.raises(PreparationError, match="2 listed files"):
        prepare_folder(tree, tmp_path / "out", file_list=listed)
    prepared = prepare_folder(tree, tmp_path / "out", file_list=listed, allow_partial=True)
    assert len(json.loads(prepared.summary.read_text())["left_out"]) == 2


def test_wrong_requests_are_clear(tree, tmp_path):
    with pytest.raises(PreparationError, match="'mood'"):
        prepare_folder(tree, tmp_path / "out", layout="speaker/mood")
    table = tmp_path / "labels.csv"
    table.write_text("clip,label\nann/glad/1.wav,glad\n")
    with pytest.raises(PreparationError, match="--columns wav=NAME"):
        prepare_folder(tree, tmp_path / "out", csv_file=table)
    with pytest.raises(PreparationError, match="no emotion"):
        prepare_folder(tree, tmp_path / "out", layout="speaker", protocol="B")
    with pytest.raises(ProtocolError, match="no speaker"):
        prepare_folder(tree, tmp_path / "out", layout="_/emotion", protocol="B")
    with pytest.raises(ProtocolError, match="5 speakers do not fill 6"):
        prepare_folder(tree, tmp_path / "out", layout="speaker/emotion", num_folds=6)


def test_command(tree, tmp_path, capsys):
    arguments = ["--data_folder", str(tree), "--save_folder", str(tmp_path / "out")]
    options = ["--layout", "speaker/emotion", "--labels", "glad=happy", "cross=angry"]
    assert main([*arguments, *options]) == 0
    assert "angry 10, happy 10" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*arguments, "--labels", "glad"])
    assert "NAME=VALUE" in capsys.readouterr().err
