"""One folder that everything opens: transformers, SpeechBrain, and a loader that runs no code.

===========================  ==========================================================
config.json,                 the encoder: ``transformers.WavLMModel.from_pretrained(folder)``
preprocessor_config.json,    or ``vesper_lobes.checkpoints.load_encoder(folder)``
model.safetensors
classifier.json,             classes, head, layer mix, crop, versions, source; head and layer
classifier.safetensors       weights: ``load_classifier(folder)``, tensors and JSON only
hyperparams.yaml,            SpeechBrain: ``EncoderClassifier.from_hparams(source=folder)``;
embedding_model.ckpt,        layer weights, head and classes again, the encoder not:
classifier.ckpt,             it is read from model.safetensors
label_encoder.ckpt
README.md                    the model card
===========================  ==========================================================
"""

import importlib.metadata
import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from speechbrain.dataio.encoder import CategoricalEncoder

from vesper_lobes.checkpoints import save_encoder
from vesper_lobes.emotion_classifier import EmotionClassifier
from vesper_lobes.heads import SuperbHead
from vesper_lobes.inference import ClassLabels, EmbeddingModel, LogProbabilities
from vesper_lobes.model_card import model_card
from vesper_lobes.self_check import answer_to_reference, check_answer
from vesper_lobes.strict_loading import ENCODER_FILES, read_encoder

FORMAT = "vesper-emotion-classifier"
FORMAT_VERSION = 1
FILES = (
    *ENCODER_FILES,
    "classifier.json",
    "classifier.safetensors",
    "hyperparams.yaml",
    "embedding_model.ckpt",
    "classifier.ckpt",
    "label_encoder.ckpt",
    "README.md",
)
DESCRIBED = "classes head layer_mix num_states crop_seconds long_audio self_check".split()

HYPERPARAMS = """\
# A speech emotion classifier for SpeechBrain:
#     from speechbrain.inference.classifiers import EncoderClassifier
#     model = EncoderClassifier.from_hparams(source="<this folder>")
# It needs the package vesper_lobes and no interface file. "There is no such module as vesper_lobes"
# means that the package is missing: run `pip install -e .` in a checkout of the Vesper project.
# Reading a file like this one can run code: load folders you trust, or use
# vesper_lobes.export.load_classifier(folder), which runs none.

needs: !module:vesper_lobes

compute_features: !new:vesper_lobes.inference.WaveformGuard
mean_var_norm: !new:vesper_lobes.inference.PassThrough
audio_normalizer: !new:vesper_lobes.inference.MonoResampler

embedding_model: !new:vesper_lobes.inference.EmbeddingModel
{embedding_model}
classifier: !new:vesper_lobes.inference.LogProbabilities
{classifier}
label_encoder: !new:vesper_lobes.inference.ClassLabels
{label_encoder}
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    classifier: !ref <classifier>

# strict, reads the encoder from model.safetensors, and compares the loaded model's answer to a
# fixed waveform with the stored one
pretrainer: !new:vesper_lobes.strict_loading.CheckedPretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        classifier: !ref <classifier>
        label_encoder: !ref <label_encoder>
    self_check:
{self_check}
"""


def export_classifier(
    folder,
    encoder,
    layer_mix,
    head,
    classes,
    crop_seconds=None,
    long_audio="chunks",
    source=None,
    trained_on=None,
    licence=None,
    scores=None,
):
    """Write an emotion classifier as one folder, atomically; an older export there is replaced.

    Arguments
    ---------
    folder : str or pathlib.Path
        Refused if it holds anything but an older export.
    encoder : Encoder
    layer_mix : LayerMix
        Over the encoder's N+1 states.
    head : SuperbHead
    classes : list of str
        In the order of the head's outputs.
    crop_seconds : float, optional
        Of the training crops; the longest piece the model listens to at once. None: 30 s.
    long_audio : str
        "chunks": longer audio is cut into equal pieces and pooled; "first": only the first crop.
    source, trained_on, licence, scores : str, optional
        For classifier.json and the model card: where the encoder comes from, the training data,
        terms, and a line of results.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    ValueError
        Classes that are not distinct strings or not as many as the head's outputs, another head,
        or a folder with files of someone else.
    """
    classes = _checked_classes(classes, head.classifier.out_features)
    model, classifier = _assemble(encoder, layer_mix, head, crop_seconds, long_audio)
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "classes": classes,
        "head": _head_sizes(head),
        "layer_mix": layer_mix.mode,
        "num_states": layer_mix.num_states,
        "crop_seconds": crop_seconds,
        "long_audio": long_audio,
        "sample_rate": 16000,
        "source": source,
        "trained_on": trained_on,
        "licence": licence,
        "scores": scores,
        "versions": _versions(),
        "self_check": _answer_on_cpu(model, classifier),
    }
    folder = Path(folder).resolve()
    _refuse_foreign_files(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        _write(new, encoder, model, classifier, description)
        _swap(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def load_classifier(folder, device=None):
    """Open an exported folder: reads JSON and safetensors only, and runs no code from it.

    Arguments
    ---------
    folder : str or pathlib.Path
        Local; hyperparams.yaml and the .ckpt files are not opened.
    device : str or torch.device, optional
        None: the GPU if there is one.

    Returns
    -------
    EmotionClassifier
        With ``classes``, ``classify(files or waveforms)`` and ``encode(files or waveforms)``.

    Raises
    ------
    FileNotFoundError
        The folder or one of its files is missing; lists them.
    ValueError
        Not an export, or weights that do not fit.
    RuntimeError
        The loaded model's answer to the reference waveform is not the stored one.
    """
    folder = Path(folder)
    needed = (*ENCODER_FILES, "classifier.json", "classifier.safetensors")
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder}: not a whole exported classifier, missing {', '.join(missing)}. "
            "Give a local folder written by vesper_lobes.export.export_classifier"
        )
    description = read_description(folder)
    classes = description["classes"]
    model = EmbeddingModel(
        num_states=description["num_states"],
        layer_mix=description["layer_mix"],
        crop_seconds=description["crop_seconds"],
        long_audio=description["long_audio"],
    )
    head = dict(description["head"])
    classifier = LogProbabilities(head.pop("type"), **head)
    _checked_classes(classes, classifier.head.classifier.out_features)
    path = folder / "classifier.safetensors"
    mix, head_tensors = _split(_read_safetensors(path))
    model.load_mix(mix, path)
    classifier.load_head(head_tensors, path)
    model.set_encoder(read_encoder(folder))
    model.eval(), classifier.eval()
    check_answer(model, classifier, description["self_check"], folder)
    return EmotionClassifier(model, classifier, classes, description, device)


def read_description(folder):
    """classifier.json of an exported folder as a dict, if it is ours and complete."""
    path = Path(folder) / "classifier.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ValueError(f"{path}: not a description of an exported classifier ({FORMAT})")
    version = description.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(f"{path}: format version {version}, this package reads {FORMAT_VERSION}")
    missing = [key for key in DESCRIBED if key not in description]
    if missing:
        raise ValueError(f"{path}: incomplete, without {', '.join(missing)}")
    return description


def _checked_classes(classes, outputs):
    classes = list(classes)
    if not all(isinstance(name, str) and name for name in classes):
        raise ValueError(f"classes must be names, not {classes}")
    if len(set(classes)) != len(classes):
        raise ValueError(f"a class is named twice: {classes}")
    if len(classes) != outputs:
        raise ValueError(f"{len(classes)} classes {classes}, but the head has {outputs} outputs")
    return classes


def _head_sizes(head):
    if not isinstance(head, SuperbHead):
        raise ValueError(f"only the SUPERB head can be exported, not {type(head).__name__}")
    return {
        "type": "superb",
        "input_dim": head.projector.in_features,
        "num_classes": head.classifier.out_features,
        "hidden": head.projector.out_features,
    }


def _versions():
    names = ("torch", "speechbrain", "transformers", "safetensors")
    return {name: importlib.metadata.version(name) for name in names}


def _assemble(encoder, layer_mix, head, crop_seconds, long_audio):
    """The modules an importer will build, with copies of the given weights."""
    model = EmbeddingModel(layer_mix.num_states, layer_mix.mode, crop_seconds, long_audio)
    model.set_encoder(encoder)
    model.load_mix(_cpu(layer_mix), "layer_mix")
    sizes = _head_sizes(head)
    classifier = LogProbabilities(sizes.pop("type"), **sizes)
    classifier.load_head(_cpu(head), "head")
    return model, classifier


def _cpu(module):
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}


def _answer_on_cpu(model, classifier):
    """The reference answer, from the CPU in float32, as every loader will compute it."""
    device = next(model.encoder.parameters()).device
    modes = {module: module.training for module in model.modules()}
    model.to("cpu")
    answer = answer_to_reference(model, classifier)
    model.to(device)  # the caller's encoder, as it was
    for module, mode in modes.items():
        module.training = mode
    if not all(abs(value) < float("inf") for values in answer.values() for value in values):
        raise ValueError("the model answers NaN or infinity to a plain waveform: not exported")
    return answer


def _write(folder, encoder, model, classifier, description):
    """All files of an export into an existing empty folder."""
    save_encoder(encoder, folder)
    mix, head = _cpu(model.layer_mix), _cpu(classifier.head)
    tensors = {f"layer_mix.{name}": tensor for name, tensor in mix.items()}
    tensors.update({f"head.{name}": tensor for name, tensor in head.items()})
    save_file(tensors, folder / "classifier.safetensors", metadata={"format": "pt"})
    torch.save(mix, folder / "embedding_model.ckpt")
    torch.save(head, folder / "classifier.ckpt")
    CategoricalEncoder.save(ClassLabels(description["classes"]), folder / "label_encoder.ckpt")
    (folder / "hyperparams.yaml").write_text(_hyperparams(description), encoding="utf-8")
    text = json.dumps(description, indent=2, ensure_ascii=False)
    (folder / "classifier.json").write_text(text + "\n", encoding="utf-8")
    (folder / "README.md").write_text(model_card(description, encoder), encoding="utf-8")
    os.chmod(folder, 0o755)  # mkdtemp made it private


def _hyperparams(description):
    head = dict(description["head"])
    embedding_keys = ("num_states", "layer_mix", "crop_seconds", "long_audio")
    return HYPERPARAMS.format(
        embedding_model=_block({key: description[key] for key in embedding_keys}),
        classifier=_block({"head": head.pop("type"), **head}),
        label_encoder=_block({"classes": description["classes"]}),
        self_check=_block(description["self_check"], indent=8),
    )


def _block(mapping, indent=4):
    """A mapping as YAML, indented; written by the YAML library, so names may hold anything."""
    lines = yaml.safe_dump(mapping, default_flow_style=None, width=100, sort_keys=False)
    return "".join(" " * indent + line + "\n" for line in lines.splitlines())


def _refuse_foreign_files(folder):
    """Replacing a folder deletes it, so it may only hold what an export wrote."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file")
    foreign = sorted(entry.name for entry in folder.iterdir() if entry.name not in FILES)
    if foreign:
        raise ValueError(
            f"{folder} holds files that no export wrote ({', '.join(foreign[:5])}) and would lose "
            "them: choose another folder, or move them away"
        )


def _swap(new, folder):
    """Put ``new`` in the place of ``folder``; if that fails, the old one is back."""
    if not folder.exists():
        os.rename(new, folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".old", dir=folder.parent))
    os.rename(folder, old)  # onto an empty folder: atomic
    try:
        os.rename(new, folder)
    except OSError:
        os.rename(old, folder)
        raise
    shutil.rmtree(old)


def _read_safetensors(path):
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from error


def _split(tensors):
    """layer_mix.* and head.* without their prefix; anything else stays, to be refused."""
    mix = {k.removeprefix("layer_mix."): t for k, t in tensors.items() if not k.startswith("head.")}
    head = {k.removeprefix("head."): t for k, t in tensors.items() if k.startswith("head.")}
    return mix, head
