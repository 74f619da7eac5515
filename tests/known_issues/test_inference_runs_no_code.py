"""hyperparams.yaml and pickles can run any code: our loader opens neither, and .ckpt files are tensors only."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from exported_model import CLASSES, build_export, speechlike
from speechbrain.inference.classifiers import EncoderClassifier

from vesper_lobes.export import load_classifier


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
    for name in ("embedding_model.ckpt", "classifier.ckpt", "label_encoder.ckpt", "pytorch_model.bin"):
        (folder / name).write_bytes(pickle.dumps(Bomb(mark)))
    for name in ("custom.py", "vesper_lobes.py", "sitecustomize.py"):
        (folder / name).write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    model = load_classifier(folder, "cpu")
    assert model.classify(speechlike()).labels[0] in CLASSES
    assert not mark.exists()


def test_the_trap_is_real_for_from_hparams(folder, tmp_path):
    """Why the model card says "folders you trust": this is SpeechBrain's YAML, not ours to change."""
    mark = tmp_path / "ran"
    path = folder / "hyperparams.yaml"
    path.write_text(f"bomb: !apply:os.mkdir [{mark}]\n" + path.read_text())
    EncoderClassifier.from_hparams(source=str(folder), run_opts={"device": "cpu"})
    assert mark.exists()


@pytest.mark.parametrize("name", ["embedding_model.ckpt", "classifier.ckpt", "label_encoder.ckpt"])
def test_a_pickle_in_a_ckpt_is_refused_and_not_run(folder, tmp_path, name):
    mark = tmp_path / "ran"
    (folder / name).write_bytes(pickle.dumps(Bomb(mark), protocol=2))
    with pytest.raises(ValueError, match=name):
        EncoderClassifier.from_hparams(source=str(folder), run_opts={"device": "cpu"})
    assert not mark.exists()


def test_a_module_beside_the_model_is_not_imported_from_the_command_line(folder, tmp_path):
    """``python -m`` puts the current folder first on the path, so stand elsewhere than in the model."""
    mark = tmp_path / "ran"
    (folder / "custom.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    project = Path(__file__).resolve().parents[2]
    code = f"from vesper_lobes.export import load_classifier; load_classifier({str(folder)!r}, 'cpu')"
    env = {**os.environ, "PYTHONPATH": str(project)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)
    assert not mark.exists()
