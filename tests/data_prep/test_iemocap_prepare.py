"""IEMOCAP: which lines are labels, who speaks, and the protocols A, B and C."""

import csv
import json

import pytest
from corpus_trees import iemocap_utterances, plant_iemocap

from data_prep.iemocap_prepare import CLASSES, COUNTS, main, prepare_iemocap
from data_prep.manifest import read_manifest
from data_prep.preparation import PreparationError


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("iemocap")
    plant_iemocap(root, iemocap_utterances())
    return root


def test_labels_speakers_and_left_out_names(tree, tmp_path):
    prepared = prepare_iemocap(tree, tmp_path, allow_partial=True)
    frame = read_manifest(prepared.manifest, classes=CLASSES).set_index("ID")
    assert frame.loc["Ses01F_impro01_M000", "speaker"] == "Ses01M"  # not the F after Ses01
    assert frame.loc["Ses01F_impro01_M003", "emotion"] == "hap"  # exc
    assert frame["emotion"].value_counts().to_dict() == {"hap": 40, "ang": 20, "neu": 20, "sad": 20}
    reasons = json.loads(prepared.summary.read_text())["left_out_by_reason"]
    assert reasons == {
        "label fru": 20,
        "label oth": 20,
        "label xxx": 20,
        "not in sentences/wav": 10,
    }


@pytest.mark.parametrize("protocol", ["A", "B", "C"])
def test_protocols(tree, tmp_path, protocol):
    folds = prepare_iemocap(tree, tmp_path, protocol=protocol, allow_partial=True).folds
    for k, fold in enumerate(folds, start=1):
        train, dev, test = (read_manifest(path) for path in fold)
        assert set(test["session"]) == {str(k)}
        others = {str(s) for s in range(1, 6)} - {str(k)}
        if protocol == "A":
            assert dev.equals(test) and set(train["session"]) == others
        elif protocol == "B":
            after = str(k % 5 + 1)
            assert set(dev["session"]) == {after} and set(train["session"]) == others - {after}
        else:
            assert set(dev["session"]) == set(train["session"]) == others
            assert len(dev) == round(0.2 * (len(dev) + len(train)))
    assert len(folds) == 5


def test_partial_and_missing(tree, tmp_path):
    with pytest.raises(PreparationError, match="5531"):
        prepare_iemocap(tree, tmp_path)
    with pytest.raises(PreparationError, match="Session1 to Session5"):
        prepare_iemocap(tmp_path, tmp_path)
    assert main(["--data_folder", str(tree), "--save_folder", str(tmp_path)]) == 1


def test_full_real_lists(test_data, tmp_path):
    with open(test_data / "meta" / "iemocap" / "iemocap_5531.csv") as file:
        seconds = {row["name"]: float(row["duration"]) for row in csv.DictReader(file)}
    with open(test_data / "meta" / "iemocap" / "iemocap_all_10039.csv") as file:
        labels = {row["name"]: row["label"] for row in csv.DictReader(file)}
    plant_iemocap(tmp_path / "data", ((n, lab, seconds.get(n, 1.0)) for n, lab in labels.items()))
    prepared = prepare_iemocap(tmp_path / "data", tmp_path / "out")
    frame = read_manifest(prepared.manifest)
    assert set(frame["ID"]) == set(seconds)
    assert frame["emotion"].value_counts().to_dict() == COUNTS
    sizes = frame.groupby("session").size().tolist()
    assert sizes == [1085, 1023, 1151, 1031, 1241]
    assert frame["duration"].min() == pytest.approx(0.58494, abs=1e-4)
    assert len(set(frame["speaker"])) == 10
    summary = json.loads(prepared.summary.read_text())
    assert summary["status"] == "full" and summary["left_out_by_reason"]["label xxx"] == 2507
    for fold in prepared.folds:
        train, dev, test = (set(read_manifest(path)["speaker"]) for path in fold)
        assert not (train & dev or train & test or dev & test)
