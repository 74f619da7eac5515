"""hyperparams.yaml and pickles can run any code: our loader opens neither."""

import os
import pickle

import pytest
from exported_model import CLASSES, build_export, speechlike
from speechbrain.inference.classifiers import EncoderClassifier

from vesper_lobes.export import load_classifier

CKPT = ("embedding_model.ckpt", "classifier.ckpt", "label_encoder.ckpt")


class Bomb:
    """A pickle that makes a file when it is opened."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.fixture
def folder(tmp_path, tiny_config):
    return build_export(tmp_path / "model", tiny_config())


def test_load_classifier_opens_no_yaml_and_no_pickle(folder, tmp_path):
    mark = tmp_path / "ran"
    path = folder / "hyperparams.yaml"
    path.write_text(f"bomb: !apply:os.mkdir [{mark}]\n" + path.read_text())
    for name in (*CKPT, "pytorch_model.bin"):
        (folder / name).write_bytes(pickle.dumps(Bomb(mark)))
    for name in ("custom.py", "vesper_lobes.py", "sitecustomize.py"):
        (folder / name).write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    model = load_classifier(folder, "cpu")
    assert model.classify(speechlike()).labels[0] in CLASSES
    assert not mark.exists()


def test_the_trap_is_real_for_from_hparams(folder, tmp_path):
    """Why the model card says "folders you trust": the YAML reader is SpeechBrain's."""
    mark = tmp_path / "ran"
    path = folder / "hyperparams.yaml"
    path.write_text(f"bomb: !apply:os.mkdir [{mark}]\n" + path.read_text())
    EncoderClassifier.from_hparams(source=str(folder), run_opts={"device": "cpu"})
    assert mark.exists()


@pytest.mark.parametrize("name", CKPT)
def test_a_pickle_in_a_ckpt_is_refused_and_not_run(folder, tmp_path, name):
    mark = tmp_path / "ran"
    (folder / name).write_bytes(pickle.dumps(Bomb(mark), protocol=2))
    with pytest.raises(ValueError, match=name):
        EncoderClassifier.from_hparams(source=str(folder), run_opts={"device": "cpu"})
    assert not mark.exists()
