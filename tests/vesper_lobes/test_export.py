"""One exported folder: transformers, SpeechBrain and our loader open it, with one answer."""

import json
import shutil
import socket
import stat
import sys

import pytest
import torch
import torchaudio
from exported_model import CLASSES, build_export, build_parts, speechlike, write_audio
from safetensors.torch import load_file
from speechbrain.inference.classifiers import EncoderClassifier

from vesper_lobes import export
from vesper_lobes.export import FILES, export_classifier, load_classifier

KINDS = ["wavlm_large", "wavlm_base", "hubert_large", "hubert_base"]
CPU = {"device": "cpu"}


@pytest.fixture
def exported(tmp_path, tiny_config):
    return build_export(tmp_path / "model", tiny_config())


@pytest.fixture
def offline(monkeypatch):
    """Any connection is an error."""

    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def ragged(seconds=(1.7, 1.0, 0.4, 0.1)):
    wavs = [speechlike(s, seed=i) for i, s in enumerate(seconds)]
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    lens = torch.tensor([len(wav) / padded.shape[1] for wav in wavs])
    return wavs, padded, lens


def worst(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def test_every_file_is_there_and_readable_by_others(exported):
    assert {path.name for path in exported.iterdir()} == set(FILES)
    assert stat.S_IMODE(exported.stat().st_mode) == 0o755
    description = json.loads((exported / "classifier.json").read_text())
    assert description["classes"] == CLASSES
    sizes = {"type": "superb", "input_dim": 32, "num_classes": 4, "hidden": 256}
    assert description["head"] == sizes
    assert description["versions"]["torch"] == torch.__version__.split("+")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_opens_the_folder_with_identical_states(tmp_path, tiny_config, kind):
    from transformers import HubertModel, WavLMModel

    folder = build_export(tmp_path / "model", tiny_config(kind))
    their_class = WavLMModel if kind.startswith("wavlm") else HubertModel
    theirs = their_class.from_pretrained(folder).eval()
    ours = load_classifier(folder, "cpu").embedding_model.encoder
    wav = speechlike(0.9).unsqueeze(0)
    normed = (wav - wav.mean()) / (wav.var(unbiased=False) + 1e-7).sqrt()
    with torch.no_grad():
        states = ours(wav).states
        seen = theirs(normed if ours.config.do_normalize else wav, output_hidden_states=True)
    for index in range(len(states) - 1):  # the last of theirs may be normed, by version and type
        assert worst(states[index], seen.hidden_states[index]) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["weighted_sum", "last"])
def test_speechbrain_and_our_loader_agree(tmp_path, tiny_config, kind, mode):
    folder = build_export(tmp_path / "model", tiny_config(kind), mode)
    wavs, padded, lens = ragged()
    brain = EncoderClassifier.from_hparams(source=str(folder), run_opts=CPU)
    ours = load_classifier(folder, "cpu")
    log_probabilities, score, index, labels = brain.classify_batch(padded, lens)
    predictions = ours.classify(wavs)
    assert log_probabilities.shape == (4, 4) and score.shape == index.shape == (4,)
    assert torch.allclose(log_probabilities.exp(), predictions.probabilities, atol=1e-6)
    assert torch.allclose(predictions.probabilities.sum(-1), torch.ones(4))
    assert labels == predictions.labels == [CLASSES[i] for i in index.tolist()]
    assert torch.allclose(brain.encode_batch(padded, lens).squeeze(1), ours.encode(wavs), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_batched_is_single(tmp_path, tiny_config, kind):
    folder = build_export(tmp_path / "model", tiny_config(kind))
    wavs, padded, lens = ragged()
    brain = EncoderClassifier.from_hparams(source=str(folder), run_opts=CPU)
    batched, *_ = brain.classify_batch(padded, lens)
    embeddings = brain.encode_batch(padded, lens)
    for row, wav in enumerate(wavs):
        single, *_ = brain.classify_batch(wav.unsqueeze(0))
        assert worst(batched[row], single[0]) < 1e-5
        assert worst(embeddings[row], brain.encode_batch(wav)[0]) < 1e-5


def test_the_answers_depend_on_the_audio(exported):
    probabilities = load_classifier(exported, "cpu").classify(ragged()[0]).probabilities
    assert probabilities.std(dim=0).max() > 1e-3


def test_offline_from_any_folder_moved_and_copied(exported, tmp_path, monkeypatch, offline):
    wav = write_audio(tmp_path / "a.wav", speechlike())
    before = load_classifier(exported, "cpu").classify(wav).probabilities
    moved, copied = tmp_path / "else where" / "m", tmp_path / "copy"
    moved.parent.mkdir()
    shutil.copytree(exported, copied)
    shutil.move(exported, moved)
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    for source in (str(moved), str(copied), "../copy"):
        brain = EncoderClassifier.from_hparams(source=source, run_opts=CPU)
        log_probabilities, *_ = brain.classify_file(str(wav))
        assert torch.allclose(log_probabilities.exp(), before, atol=1e-6)
        assert torch.allclose(load_classifier(source, "cpu").classify(wav).probabilities, before)
    assert list(cwd.iterdir()) == []  # nothing is written where one stands


def test_with_a_savedir(exported, tmp_path):
    for _ in range(2):  # the second time from the savedir itself
        brain = EncoderClassifier.from_hparams(str(exported), savedir=tmp_path / "s", run_opts=CPU)
        assert brain.classify_batch(speechlike())[3][0] in CLASSES
    assert (tmp_path / "s" / "model.safetensors").exists()


@pytest.mark.parametrize("with_savedir", [False, True])
def test_from_a_hub(exported, tmp_path, monkeypatch, with_savedir):
    """A hub gives one file at a time, as links into a snapshot folder."""
    snapshot = tmp_path / "cache" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    asked = []

    def download(repo_id, filename, **options):
        asked.append(filename)
        link = snapshot / filename
        if not link.exists():
            link.symlink_to(exported / filename)
        return str(link)

    monkeypatch.setattr("speechbrain.utils.fetching.huggingface_hub.hf_hub_download", download)
    monkeypatch.chdir(tmp_path)
    options = {"savedir": tmp_path / "saved"} if with_savedir else {}
    brain = EncoderClassifier.from_hparams(source="someone/vesper", run_opts=CPU, **options)
    wav = speechlike()
    expected = load_classifier(exported, "cpu").classify(wav).probabilities
    assert torch.allclose(brain.classify_batch(wav)[0].exp(), expected, atol=1e-6)
    assert "model.safetensors" in asked


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("channels", [1, 2])
def test_formats_rates_and_channels(exported, tmp_path, monkeypatch, suffix, rate, channels):
    def refuse(*args, **kwargs):
        raise AssertionError("torchaudio.load was called")

    monkeypatch.setattr(torchaudio, "load", refuse)
    wav = speechlike(1.2, sample_rate=rate)
    if channels == 2:
        wav = torch.stack([wav, 0.3 * wav], dim=1)
    path = write_audio(tmp_path / f"a.{suffix}", wav, rate)
    brain = EncoderClassifier.from_hparams(source=str(exported), run_opts=CPU)
    log_probabilities, _, _, labels = brain.classify_file(str(path))
    predictions = load_classifier(exported, "cpu").classify(path)
    assert torch.allclose(log_probabilities.exp(), predictions.probabilities, atol=1e-5)
    assert labels == predictions.labels


def test_the_encoder_is_stored_once(exported):
    assert set(torch.load(exported / "embedding_model.ckpt", weights_only=True)) == {"weights"}
    assert (exported / "embedding_model.ckpt").stat().st_size < 5000
    assert set(load_file(exported / "classifier.safetensors")) == {
        "layer_mix.weights",
        "head.projector.weight",
        "head.projector.bias",
        "head.classifier.weight",
        "head.classifier.bias",
    }


def test_class_names_survive_yaml(tmp_path, tiny_config):
    names = ["no", "1", "<angry>", "Überraschung", "a: 'b\" #c", "null", "{x}", "!ref <pretrainer>"]
    folder = build_export(tmp_path / "model", tiny_config(), classes=names)
    brain = EncoderClassifier.from_hparams(source=str(folder), run_opts=CPU)
    assert brain.hparams.label_encoder.decode_torch(torch.arange(len(names))) == names
    assert load_classifier(folder, "cpu").classes == names


def test_export_leaves_the_model_as_it_was(tmp_path, tiny_config):
    encoder, mix, head = build_parts(tiny_config())
    encoder.train(), head.train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    trainable = [parameter.requires_grad for parameter in encoder.parameters()]
    export_classifier(tmp_path / "model", encoder, mix, head, CLASSES)
    assert encoder.training and encoder.encoder.training and head.training
    assert [parameter.requires_grad for parameter in encoder.parameters()] == trainable
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())


def test_a_newer_export_replaces_the_older(tmp_path, tiny_config):
    folder = build_export(tmp_path / "model", tiny_config(), seed=0)
    first = load_classifier(folder, "cpu").classify(speechlike()).probabilities
    build_export(folder, tiny_config(), seed=1)
    second = load_classifier(folder, "cpu").classify(speechlike()).probabilities
    assert not torch.allclose(second, first)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]  # no temporary folder is left


def test_a_failed_export_leaves_the_older_one(tmp_path, tiny_config, monkeypatch):
    folder = build_export(tmp_path / "model", tiny_config())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(export, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        build_export(folder, tiny_config(), seed=1)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_failed_swap_puts_the_older_one_back(tmp_path, tiny_config, monkeypatch):
    folder = build_export(tmp_path / "model", tiny_config())
    rename = export.os.rename

    def fail_on_the_new(source, target):
        if str(source).endswith(".tmp"):
            raise OSError("rename failed")
        rename(source, target)

    monkeypatch.setattr(export.os, "rename", fail_on_the_new)
    with pytest.raises(OSError, match="rename failed"):
        build_export(folder, tiny_config(), seed=1)
    assert load_classifier(folder, "cpu").classes == CLASSES


def test_a_folder_with_other_files_is_not_replaced(tmp_path, tiny_config):
    folder = build_export(tmp_path / "model", tiny_config())
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="thesis.txt"):
        build_export(folder, tiny_config())
    assert (folder / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    "classes, reason",
    [(["a", "b"], "4 outputs"), (["a", "a", "b", "c"], "twice"), (["a", "b", "c", 3], "names")],
)
def test_classes_must_fit_the_head(tmp_path, tiny_config, classes, reason):
    with pytest.raises(ValueError, match=reason):
        export_classifier(tmp_path / "model", *build_parts(tiny_config()), classes)
    assert list(tmp_path.iterdir()) == []


def test_only_a_known_head_is_exported(tmp_path, tiny_config):
    encoder, mix, _ = build_parts(tiny_config())
    with pytest.raises((ValueError, AttributeError)):
        export_classifier(tmp_path / "model", encoder, mix, torch.nn.Linear(32, 4), CLASSES)


def test_a_model_that_answers_nan_is_not_exported(tmp_path, tiny_config):
    encoder, mix, head = build_parts(tiny_config())
    torch.nn.init.constant_(head.projector.bias, float("nan"))
    with pytest.raises(ValueError, match="NaN"):
        export_classifier(tmp_path / "model", encoder, mix, head, CLASSES)


def test_the_model_card_tells_how_to_load_and_warns(tmp_path, tiny_config):
    said = dict(trained_on="EmoDB", source="WavLM Large")
    folder = build_export(tmp_path / "model", tiny_config(), **said)
    card = (folder / "README.md").read_text()
    told = ["EmoDB", "WavLM Large", "anger, happiness, neutral, sadness", "folders you trust"]
    for text in [*told, "load_classifier", "from_hparams", "WavLMModel.from_pretrained"]:
        assert text in card


class NotInstalled:
    """A finder in front of the others: this package cannot be found."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "vesper_lobes":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_without_vesper_lobes_the_error_says_so(exported, monkeypatch):
    monkeypatch.delitem(sys.modules, "vesper_lobes")
    monkeypatch.setattr(sys, "meta_path", [NotInstalled, *sys.meta_path])
    with pytest.raises(ImportError, match="no such module as vesper_lobes"):
        EncoderClassifier.from_hparams(source=str(exported), run_opts=CPU)
    assert "pip install" in (exported / "hyperparams.yaml").read_text()


@pytest.mark.parametrize("crop, rule", [(0.5, "chunks"), (0.5, "first"), (None, "chunks")])
def test_the_crop_rule_travels(tmp_path, tiny_config, crop, rule):
    folder = build_export(tmp_path / "m", tiny_config(), crop_seconds=crop, long_audio=rule)
    brain = EncoderClassifier.from_hparams(source=str(folder), run_opts=CPU)
    ours = load_classifier(folder, "cpu")
    for model in (brain.mods.embedding_model, ours.embedding_model):
        assert model.longest == (8000 if crop else 480000) and model.long_audio == rule
    wav = speechlike(1.3)
    assert torch.allclose(brain.classify_batch(wav)[0].exp(), ours.classify(wav).probabilities)


def test_real_speech(exported, test_data):
    files = sorted(test_data.rglob("*.flac"))[:4]
    ours = load_classifier(exported, "cpu")
    brain = EncoderClassifier.from_hparams(source=str(exported), run_opts=CPU)
    predictions = ours.classify(files)
    for row, file in enumerate(files):
        log_probabilities, *_ = brain.classify_file(str(file))
        assert torch.allclose(log_probabilities.exp()[0], predictions.probabilities[row], atol=1e-5)
