"""CREMA-D: one silent clip and three identical pairs with two labels each must not be scored."""

from corpus_trees import write_sparse_wav

from data_prep.cremad_prepare import IDENTICAL, SILENT, prepare_cremad
from data_prep.manifest import read_manifest


def test_seven_clips_are_in_a_and_in_no_fold_of_b(tmp_path):
    doubtful = {SILENT, *sum(IDENTICAL, ())}
    actors = sorted({name[:4] for name in doubtful} | {f"10{n:02d}" for n in range(1, 20)})
    names = doubtful | {f"{a}_DFA_{e}_XX" for a in actors for e in ("ANG", "SAD")}
    for name in names:
        write_sparse_wav(tmp_path / "data" / "AudioWAV" / f"{name}.wav")
    used = {}
    for protocol in "AB":
        prepared = prepare_cremad(tmp_path / "data", tmp_path, protocol, allow_partial=True)
        files = [path for fold in prepared.folds for path in fold]
        used[protocol] = set().union(*(read_manifest(path)["ID"] for path in files))
    assert used["A"] == names == set(read_manifest(prepared.manifest)["ID"])
    assert used["B"] == names - doubtful and len(doubtful) == 7
