"""Protocols: who is tested when, and what is refused."""

import pandas as pd
import pytest

from data_prep.folds import (
    Fold,
    ProtocolError,
    check_folds,
    check_protocol,
    groups_of,
    official_fold,
    random_dev_folds,
    rotating_folds,
    stratified_fold,
    write_folds,
)
from data_prep.manifest import COLUMNS


def manifest(speakers=10, each=8):
    rows = [
        {
            "ID": f"s{s:02d}u{u}",
            "duration": 1.0,
            "wav": f"$data_root/s{s:02d}u{u}.wav",
            "start": 0,
            "stop": -1,
            "speaker": f"s{s:02d}",
            "emotion": ("angry", "sad")[u % 2],
        }
        for s in range(speakers)
        for u in range(each)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).fillna("")


def test_rotation_tests_everyone_once_and_shares_no_speaker():
    data = manifest()
    folds = rotating_folds(data, groups_of(data["speaker"], 5), "B")
    assert [sorted(set(f.test["speaker"])) for f in folds][0] == ["s00", "s01"]
    assert sorted(pd.concat([f.test for f in folds])["ID"]) == sorted(data["ID"])
    for k, fold in enumerate(folds):
        assert set(fold.dev["speaker"]) == set(folds[(k + 1) % 5].test["speaker"])
        assert sum(map(len, fold)) == len(data)
    assert check_folds(folds, "B") == []


def test_protocol_a_picks_on_test():
    data = manifest()
    for fold in rotating_folds(data, groups_of(data["speaker"], 5), "A"):
        assert fold.dev.equals(fold.test)
        assert len(fold.train) + len(fold.test) == len(data)


def test_files_of_a_have_dev_equal_to_test(tmp_path):
    data = manifest()
    for protocol in "AB":
        folds = rotating_folds(data, groups_of(data["speaker"], 5), protocol)
        for paths in write_folds(folds, tmp_path, protocol):
            same = paths.dev.read_bytes() == paths.test.read_bytes()
            assert same == (protocol == "A")
    assert (tmp_path / "folds" / "B" / "fold5_test.csv").is_file()


def test_fewer_folds_leave_no_old_ones(tmp_path):
    data = manifest()
    for count in (5, 3):
        folds = rotating_folds(data, groups_of(data["speaker"], count), "B")
        assert len(write_folds(folds, tmp_path, "B")) == count
    assert not (tmp_path / "folds" / "B" / "fold4_test.csv").exists()


def test_groups_balance_kinds():
    actors = [str(i) for i in range(1001, 1092)]
    sex = {actor: "f" if i < 43 else "m" for i, actor in enumerate(actors)}
    groups = groups_of(actors, 5, sex)
    assert sorted(sum(groups, [])) == actors
    assert {len(g) for g in groups} <= {18, 19}
    assert {sum(sex[a] == "f" for a in g) for g in groups} <= {8, 9}


def test_too_few_or_unknown_speakers_are_refused():
    with pytest.raises(ProtocolError, match="2 speakers do not fill 3"):
        groups_of(["a", "b"], 3)
    with pytest.raises(ProtocolError, match="no speaker"):
        groups_of(["a", "", "b", "c"], 3)
    with pytest.raises(ProtocolError, match="at least 3"):
        groups_of(["a", "b", "c"], 2)


def test_shared_speakers_are_refused_under_b_and_told_under_a():
    data = manifest()
    fold = Fold(data[data["ID"] < "s05u4"], data[data["speaker"] == "s07"], data[-3:])
    assert check_folds([fold], "B") == []
    leaky = fold._replace(test=data[data["ID"] == "s05u6"])
    with pytest.raises(ProtocolError, match="s05"):
        check_folds([leaky], "B")
    assert check_folds([leaky], "A")[0] == "fold 1: train and test share 1 speakers"
    with pytest.raises(ProtocolError, match="held-out utterances"):
        check_folds([fold._replace(test=data[:3])], "A")


def test_unseen_class_is_told():
    data = manifest()
    folds = rotating_folds(data, groups_of(data["speaker"], 5), "B")
    fold = folds[0]._replace(train=folds[0].train[folds[0].train["emotion"] == "sad"])
    assert check_folds([fold], "B") == ["fold 1: no training example of ['angry']"]


def test_superb_folds_draw_dev_from_training_groups():
    data = manifest()
    groups = groups_of(data["speaker"], 5)
    folds = random_dev_folds(data, groups, column="speaker")
    again = random_dev_folds(data[::-1], groups, column="speaker")
    for fold, other in zip(folds, again, strict=True):
        assert len(fold.dev) == round(0.2 * (len(data) - len(fold.test)))
        assert not set(fold.dev["speaker"]) & set(fold.test["speaker"])
        assert set(fold.dev["ID"]) == set(other.dev["ID"])  # whatever the rows' order


def test_stratified_fold_cuts_every_class_alike():
    data = manifest(each=10)
    (fold,) = stratified_fold(data, 0.2, seed=2013)
    assert fold.test["emotion"].value_counts().to_dict() == {"angry": 10, "sad": 10}
    (again,) = stratified_fold(data[::-1], 0.2, seed=2013)
    assert set(again.test["ID"]) == set(fold.test["ID"])


def test_official_split():
    data = manifest(speakers=3)
    data["split"] = data["speaker"].map({"s00": "train", "s01": "dev", "s02": "test"})
    (fold,) = official_fold(data, "B")
    assert set(fold.dev["speaker"]) == {"s01"}
    data.loc[data["split"] == "dev", "split"] = "train"
    with pytest.raises(ProtocolError, match=r"\['dev'\]"):
        official_fold(data, "B")
    (fold,) = official_fold(data, "A")
    assert fold.dev.equals(fold.test)


@pytest.mark.parametrize("letter", ["C", "E", "D", "b", ""])
def test_other_protocols_are_clear_errors(letter):
    with pytest.raises(ProtocolError, match="Choose A or B"):
        check_protocol(letter, "AB", "EmoDB")
