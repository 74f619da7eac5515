import numpy as np
import pytest
import soundfile

from data_prep.manifest import ManifestError
from data_prep.speech_sources import prepare_speech, read_speech


@pytest.fixture
def folders(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for k in range(2):
            wave = np.random.default_rng(k).normal(size=8000) * 0.1
            soundfile.write(tmp_path / name / f"{k}.wav", wave, 16000)
    return tmp_path


def test_one_folder_keeps_its_ids(folders):
    prepare_speech(folders / "prep", folders / "one")
    rows = read_speech(folders / "prep", folders / "one")
    assert list(rows["ID"]) == ["0", "1"]
    assert rows["wav"][0] == (folders / "one/0.wav").as_posix()


def test_several_folders_cannot_collide(folders):
    both = f"{folders}/one, {folders}/two"
    prepare_speech(folders / "prep", both)
    assert list(read_speech(folders / "prep", both)["ID"]) == ["one/0", "one/1", "two/0", "two/1"]
    twice = f"{folders}/one,{folders}/one"
    prepare_speech(folders / "again", twice)
    with pytest.raises(ManifestError, match="two sources"):
        read_speech(folders / "again", twice)


def test_ready_manifests_with_one_root_or_several(folders):
    prepare_speech(folders / "prep", f"{folders}/one,{folders}/two")
    manifests = ",".join(str(folders / f"prep/source{k}/manifest.csv") for k in (0, 1))
    roots = f"{folders}/one,{folders}/two"
    prepare_speech(folders / "other", roots, manifests)
    assert not (folders / "other").exists()
    assert len(read_speech(folders / "other", roots, manifests)) == 4
    with pytest.raises(ManifestError, match="2 manifests and 3"):
        prepare_speech(folders / "other", f"{roots},{folders}", manifests)


def test_nothing_given_says_what_to_give(folders):
    with pytest.raises(ManifestError, match="--data_folder"):
        prepare_speech(folders / "prep")
