"""SpeechBrain loads weights non-strictly: wrong names leave random weights and only a log line.

An exported folder refuses every such case, whichever way it is opened.
"""

import shutil

import pytest
import torch
from exported_model import CLASSES, build_export, speechlike
from safetensors.torch import load_file, save_file
from speechbrain.inference.classifiers import EncoderClassifier

from vesper_lobes.export import FILES, load_classifier

SPEECHBRAIN_FILES = [name for name in FILES if not name.startswith(("classifier.json", "README"))]
SPEECHBRAIN_FILES = [name for name in SPEECHBRAIN_FILES if name != "classifier.safetensors"]
OUR_FILES = [name for name in FILES if not name.endswith((".ckpt", ".yaml", ".md"))]


@pytest.fixture
def folder(tmp_path, tiny_config):
    return build_export(tmp_path / "model", tiny_config())


def speechbrain(folder, savedir=None):
    return EncoderClassifier.from_hparams(
        source=str(folder), savedir=savedir, run_opts={"device": "cpu"}
    )


def change(path, edit):
    """Apply ``edit`` to the tensors of a .ckpt or .safetensors file."""
    if path.suffix == ".ckpt":
        torch.save(edit(torch.load(path, weights_only=True)), path)
    else:
        save_file(edit(load_file(path)), path, metadata={"format": "pt"})


def renamed(tensors):
    return {f"module.{name}": tensor for name, tensor in tensors.items()}


def incomplete(tensors):
    return dict(list(tensors.items())[1:])


def extended(tensors):
    return {**tensors, "extra.weight": torch.zeros(3)}


def reshaped(tensors):
    return {name: tensor[..., :-1].contiguous() for name, tensor in tensors.items()}


def shaken(tensors):
    """Same names and shapes: only the answer can tell."""
    return {name: tensor + 0.3 * torch.randn_like(tensor) for name, tensor in tensors.items()}


@pytest.mark.parametrize("name", SPEECHBRAIN_FILES)
def test_speechbrain_refuses_a_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises((FileNotFoundError, ValueError), match=name):
        speechbrain(folder)


@pytest.mark.parametrize("name", OUR_FILES)
def test_our_loader_refuses_a_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        load_classifier(folder, "cpu")


@pytest.mark.parametrize("edit", [renamed, incomplete, extended, reshaped, shaken])
@pytest.mark.parametrize("name", ["embedding_model.ckpt", "classifier.ckpt", "model.safetensors"])
def test_speechbrain_refuses_other_weights(folder, name, edit):
    change(folder / name, edit)
    with pytest.raises((ValueError, RuntimeError, KeyError)) as refusal:
        speechbrain(folder)
    assert str(folder) in str(refusal.value)


@pytest.mark.parametrize("edit", [renamed, incomplete, extended, reshaped, shaken])
@pytest.mark.parametrize("name", ["classifier.safetensors", "model.safetensors"])
def test_our_loader_refuses_other_weights(folder, name, edit):
    change(folder / name, edit)
    with pytest.raises((ValueError, RuntimeError, KeyError)) as refusal:
        load_classifier(folder, "cpu")
    assert str(folder) in str(refusal.value)


@pytest.mark.parametrize("name", ["model.safetensors", "classifier.ckpt", "embedding_model.ckpt"])
def test_files_of_another_run_are_refused(folder, tmp_path, tiny_config, name):
    other = build_export(tmp_path / "other", tiny_config(), seed=1)
    shutil.copy(other / name, folder / name)
    with pytest.raises(RuntimeError, match="not the exported one"):
        speechbrain(folder)


def test_truncated_files_are_refused(folder):
    for name in ("model.safetensors", "classifier.safetensors"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])
        with pytest.raises((ValueError, OSError)):
            load_classifier(folder, "cpu")
        (folder / name).write_bytes(data)


def test_labels_in_another_order_are_refused(folder):
    path = folder / "label_encoder.ckpt"
    text = path.read_text()
    swapped = text.replace("'anger' => 0", "'sadness' => 0")
    path.write_text(swapped.replace("'sadness' => 3", "'anger' => 3"))
    assert path.read_text() != text
    with pytest.raises(ValueError, match="label_encoder.ckpt"):
        speechbrain(folder)
    path.write_text("nonsense")
    with pytest.raises(ValueError, match="label_encoder.ckpt"):
        speechbrain(folder)


def test_speechbrains_own_pretrainer_gives_no_answer(folder):
    """It would load the .ckpt files, and not the encoder."""
    path = folder / "hyperparams.yaml"
    text = path.read_text()
    head, tail = text.split("!new:vesper_lobes.strict_loading.CheckedPretrainer")
    tail = tail[: tail.index("    self_check:")]
    path.write_text(head + "!new:speechbrain.utils.parameter_transfer.Pretrainer" + tail)
    with pytest.raises(RuntimeError, match="no weights"):
        speechbrain(folder).classify_batch(speechlike().unsqueeze(0))


def test_a_stale_savedir_is_refused(folder, tmp_path, tiny_config):
    """With ``savedir``, a file already there wins over the source."""
    other = build_export(tmp_path / "other", tiny_config(), seed=1)
    speechbrain(other, savedir=tmp_path / "saved")
    with pytest.raises(ValueError, match="another model"):
        speechbrain(folder, savedir=tmp_path / "saved")
    stale = tmp_path / "stale"  # only one weight file is stale
    stale.mkdir()
    shutil.copy(other / "classifier.ckpt", stale)
    with pytest.raises(RuntimeError, match="not the exported one"):
        speechbrain(folder, savedir=stale)


def test_a_description_of_something_else_is_refused(folder):
    path = folder / "classifier.json"
    good = path.read_text()
    changes = [
        ('"format_version": 1', '"format_version": 99'),
        ('"classes"', '"klasses"'),
        ('"anger"', '"sadness"'),
    ]
    for bad in ("{", "[]", "{}", *(good.replace(*change) for change in changes)):
        path.write_text(bad)
        with pytest.raises(ValueError):
            load_classifier(folder, "cpu")
    path.write_text(good)
    assert load_classifier(folder, "cpu").classes == CLASSES
