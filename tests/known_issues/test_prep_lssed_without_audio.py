"""LSSED is granted as features and labels: the error must show the way that needs no LSSED."""

import pytest

from data_prep.lssed_prepare import prepare_lssed
from data_prep.preparation import PreparationError


@pytest.mark.parametrize("with_csv", [False, True])
def test_error_names_folder_prepare(tmp_path, with_csv):
    (tmp_path / "lssed").mkdir()
    if with_csv:
        (tmp_path / "lssed" / "metadata_english_all.csv").write_text("name,faces\na,Sad\n")
    with pytest.raises(PreparationError, match="python data_prep/folder_prepare.py"):
        prepare_lssed(tmp_path / "lssed", tmp_path / "out")
