"""A clone without git-lfs holds 130-byte text files named .wav; they were once read as audio."""

import pytest
from corpus_trees import GIT_LFS_POINTER

from data_prep.emodb_prepare import prepare_emodb
from data_prep.preparation import PreparationError


def test_pointers_are_named_with_the_cure(tmp_path):
    path = tmp_path / "data" / "wav" / "03a01Wa.wav"
    path.parent.mkdir(parents=True)
    path.write_text(GIT_LFS_POINTER)
    with pytest.raises(PreparationError, match="wav/03a01Wa.wav: a git-lfs pointer.*git lfs pull"):
        prepare_emodb(tmp_path / "data", tmp_path / "out")
