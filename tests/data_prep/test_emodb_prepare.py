"""EmoDB: the published counts, the folds, staleness, and the same bytes from anywhere."""

import json
import shutil

import pytest
from corpus_trees import emodb_names, write_sparse_wav

from data_prep.emodb_prepare import CLASSES, main, prepare_emodb
from data_prep.folds import ProtocolError
from data_prep.manifest import read_manifest
from data_prep.preparation import PreparationError, prepared_paths


@pytest.fixture(scope="module")
def full_tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("emodb")
    for i, name in enumerate(emodb_names()):
        write_sparse_wav(root / "wav" / f"{name}.wav", 1 + i / 200)
    return root


def summary_of(prepared):
    return json.loads(prepared.summary.read_text())


@pytest.mark.parametrize(("num_classes", "clips"), [(4, 339), (7, 535)])
def test_full_corpus_gives_published_counts(full_tree, tmp_path, num_classes, clips):
    prepared = prepare_emodb(full_tree, tmp_path, num_classes=num_classes)
    frame = read_manifest(prepared.manifest, classes=CLASSES[num_classes])
    summary = summary_of(prepared)
    assert len(frame) == clips and summary["status"] == "full"
    assert len(summary["left_out"]) == 535 - clips


def test_folds_are_two_speakers_in_sorted_order(full_tree, tmp_path):
    prepared = prepare_emodb(full_tree, tmp_path)
    pairs = [sorted(set(read_manifest(f.test)["speaker"])) for f in prepared.folds]
    assert pairs == [["03", "08"], ["09", "10"], ["11", "12"], ["13", "14"], ["15", "16"]]
    devs = [sorted(set(read_manifest(f.dev)["speaker"])) for f in prepared.folds]
    assert devs == pairs[1:] + pairs[:1]
    assert prepared == prepared_paths(tmp_path, "B")


def test_partial_corpus_needs_a_flag(full_tree, tmp_path):
    root = tmp_path / "part"
    shutil.copytree(full_tree, root)
    (root / "wav" / "03a01Wa.wav").unlink()
    with pytest.raises(PreparationError, match="338 usable .* 339(.|\n)*--allow_partial"):
        prepare_emodb(root, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.csv").exists()
    prepared = prepare_emodb(root, tmp_path / "out", allow_partial=True)
    assert summary_of(prepared)["status"] == "partial"


def test_other_options_never_reuse_a_manifest(full_tree, tmp_path):
    first = prepare_emodb(full_tree, tmp_path)
    prepare_emodb(full_tree, tmp_path, protocol="A")
    assert sorted(summary_of(first)["protocols"]) == ["A", "B"]
    second = prepare_emodb(full_tree, tmp_path, num_classes=7)
    assert len(read_manifest(second.manifest)) == 535
    assert not (tmp_path / "folds" / "A").exists()  # cut from the manifest of four classes


def test_same_options_reuse_and_touched_outputs_do_not(full_tree, tmp_path, capsys):
    prepared = prepare_emodb(full_tree, tmp_path)
    before = prepared.manifest.stat().st_mtime_ns
    prepare_emodb(full_tree, tmp_path)
    assert prepared.manifest.stat().st_mtime_ns == before
    text = prepared.folds[2].train.read_bytes()
    prepared.folds[2].train.write_bytes(text[:-40])  # a fold somebody cut
    prepare_emodb(full_tree, tmp_path)
    assert prepared.folds[2].train.read_bytes() == text


def test_changed_audio_is_measured_again(full_tree, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(full_tree, root)
    prepare_emodb(root, tmp_path / "out")
    write_sparse_wav(root / "wav" / "03a01Wa.wav", 7.5)
    frame = read_manifest(prepare_emodb(root, tmp_path / "out").manifest).set_index("ID")
    assert frame.loc["03a01Wa", "duration"] == 7.5


def test_same_bytes_from_another_place(full_tree, tmp_path):
    moved = tmp_path / "elsewhere" / "corpus"
    shutil.copytree(full_tree, moved)
    here, there = prepare_emodb(full_tree, tmp_path / "a"), prepare_emodb(moved, tmp_path / "b")
    for one, other in [
        *zip(here[::2], there[::2], strict=True),
        *zip(
            *([path for fold in prepared.folds for path in fold] for prepared in (here, there)),
            strict=True,
        ),
    ]:
        assert one.read_bytes() == other.read_bytes()


def test_wrong_requests_are_clear(full_tree, tmp_path):
    with pytest.raises(ProtocolError, match="IEMOCAP only"):
        prepare_emodb(full_tree, tmp_path, protocol="C")
    with pytest.raises(ValueError, match="4 or 7"):
        prepare_emodb(full_tree, tmp_path, num_classes=5)
    with pytest.raises(FileNotFoundError, match="no folder"):
        prepare_emodb(tmp_path / "nowhere", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PreparationError, match="no audio file"):
        prepare_emodb(tmp_path / "empty", tmp_path)


def test_command(full_tree, tmp_path, capsys):
    arguments = ["--data_folder", str(full_tree), "--save_folder", str(tmp_path)]
    assert main([*arguments, "--protocol", "A"]) == 0
    assert "339 clips, 10 speakers" in capsys.readouterr().out
    assert main([*arguments, "--protocol", "C"]) == 1
    assert "error: EmoDB has no protocol 'C'" in capsys.readouterr().err


def test_real_clips(test_data, tmp_path):
    prepared = prepare_emodb(test_data / "emodb4", tmp_path, verify=True)
    summary = summary_of(prepared)
    assert summary["status"] == "full" and summary["clips"] == 339
    assert summary["classes"] == {"angry": 127, "happy": 71, "neutral": 79, "sad": 62}
    assert not summary["left_out"] and not summary["identical_files"]
