"""LSSED: its csv, and a way on for those who have no audio of it."""

import json

import pytest
from corpus_trees import write_sparse_wav

from data_prep.lssed_prepare import main, prepare_lssed
from data_prep.manifest import read_manifest
from data_prep.preparation import PreparationError


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "lssed_all"
    for i in range(6):
        write_sparse_wav(root / "wav_all" / f"ep{i}_{i}.wav", 5.0)
    names = [f"ep{i}_{i}" for i in range(1, 7)]
    lines = ["name,faces,other", *(f"{name},Happy,1" for name in names)]
    (root / "metadata_english_all.csv").write_text("\n".join(lines) + "\n")
    return root


def test_csv_and_disk_are_compared_by_name(tree, tmp_path):
    with pytest.raises(PreparationError, match="147025"):
        prepare_lssed(tree, tmp_path / "out")
    prepared = prepare_lssed(tree, tmp_path / "out", allow_partial=True)
    frame = read_manifest(prepared.manifest)
    assert len(frame) == 5 and set(frame["emotion"]) == set(frame["speaker"]) == {""}
    assert json.loads(prepared.summary.read_text())["left_out"] == [
        {"name": "ep6_6", "reason": "in the csv, not on disk"},
        {"name": "wav_all/ep0_0.wav", "reason": "not in the csv"},
    ]


def test_changed_csv_is_read_again(tree, tmp_path):
    prepare_lssed(tree, tmp_path / "out", allow_partial=True)
    metadata = tree / "metadata_english_all.csv"
    metadata.write_text("name,faces\nep2_2.wav,Sad\n")
    prepared = prepare_lssed(tree, tmp_path / "out", allow_partial=True)
    assert read_manifest(prepared.manifest)["ID"].tolist() == ["ep2_2"]


def test_several_csvs_ask_for_a_choice(tree, tmp_path):
    (tree / "metadata_other.csv").write_text("name\nep1_1\n")
    with pytest.raises(PreparationError, match="--metadata FILE"):
        prepare_lssed(tree, tmp_path / "out")


def test_command(tree, tmp_path, capsys):
    arguments = ["--data_folder", str(tree), "--save_folder", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert main([*arguments, "--allow_partial"]) == 0
    assert "5 clips" in capsys.readouterr().out


@pytest.mark.slow
def test_full_size_with_invented_names(tmp_path):
    """147,025 utterances as published, sparse on disk: all read, none asked for a speaker."""
    root = tmp_path / "lssed_all"
    names = [f"ep{i // 180:03d}_{i % 180:03d}" for i in range(147_025)]
    write_sparse_wav(root / "wav_all" / f"{names[0]}.wav", 5.05)
    content = (root / "wav_all" / f"{names[0]}.wav").read_bytes()[:44]
    for name in names[1:]:
        with open(root / "wav_all" / f"{name}.wav", "wb") as file:
            file.write(content)
            file.truncate(44 + 2 * round(5.05 * 16000))
    (root / "metadata_english_all.csv").write_text("\n".join(["name,faces", *names]) + "\n")
    prepared = prepare_lssed(root, tmp_path / "out")
    frame = read_manifest(prepared.manifest)
    assert len(frame) == 147_025 and set(frame["speaker"]) == {""}
    summary = json.loads(prepared.summary.read_text())
    assert not summary["left_out"]
    assert frame["duration"].sum() / 3600 == pytest.approx(206.2, abs=0.1)
