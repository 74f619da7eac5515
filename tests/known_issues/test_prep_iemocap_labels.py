"""IEMOCAP's label files hold more than labels, and macOS's companions lie among them."""

from corpus_trees import plant_iemocap

from data_prep.iemocap_prepare import prepare_iemocap, read_labels
from data_prep.manifest import read_manifest


def test_only_the_majoritys_lines_count(tmp_path):
    names = [f"Ses0{k}{w}_script01_1_{w}000" for k in range(1, 6) for w in "FM"]
    plant_iemocap(tmp_path / "data", [(name, "neu", 1.0) for name in names])
    frame = read_manifest(
        prepare_iemocap(tmp_path / "data", tmp_path / "out", allow_partial=True).manifest
    )
    assert set(frame["emotion"]) == {"neu"} and len(frame) == 10  # not ang of Categorical/
    assert set(frame["dialogue"]) == {name[:-5] for name in names}


def test_rater_lines_without_dominance_are_no_labels(tmp_path):
    path = tmp_path / "Ses01F_impro01.txt"
    path.write_text(
        "[1.0 - 2.0]\tSes01F_impro01_F000\tsad\t[2.5000, 2.5000, 2.5000]\n"
        "C-E2:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom\t;\t()\n"
    )
    assert read_labels([path]) == {"Ses01F_impro01_F000": "sad"}


def test_speaker_is_the_last_letter_group(tmp_path):
    names = [f"Ses0{k}F_impro01_{who}000" for k in range(1, 6) for who in "FM"]
    names += ["Ses05F_impro08_MXX0"]  # some turns are named so
    plant_iemocap(tmp_path / "data", [(name, "exc", 1.0) for name in names])
    prepared = prepare_iemocap(tmp_path / "data", tmp_path / "out", allow_partial=True)
    frame = read_manifest(prepared.manifest).set_index("ID")
    assert frame.loc["Ses01F_impro01_M000", "speaker"] == "Ses01M"
    assert frame.loc["Ses05F_impro08_MXX0", "speaker"] == "Ses05M"
    assert set(frame["emotion"]) == {"hap"}
