"""Reading and writing encoders: ``load_encoder(source)`` and ``save_encoder(encoder, folder)``.

Sources, told apart by what is found there:

- a transformers folder or a hub id (``microsoft/wavlm-large``, ``facebook/hubert-large-ll60k``),
  our own exports included;
- Microsoft's ``WavLM-Large.pt`` and ``WavLM-Base.pt``;
- ``model_best.pt`` of the paper's published code.

Only tensors are ever read: safetensors, or torch's weights-only unpickler, in which every class
that a checkpoint names is replaced by an inert stand-in. Loading is strict: a name too many or too
few is an error, never random weights.
"""

import hashlib
import json
import logging
import os
import tempfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vesper_lobes.config import EncoderConfig
from vesper_lobes.encoder import Encoder
from vesper_lobes.foreign_names import config_from_shapes, from_fairseq_names, is_fairseq_style

logger = logging.getLogger(__name__)

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
CURE = (
    "Give a hub id that this machine can reach, or a local folder with config.json, "
    "preprocessor_config.json and model.safetensors (or pytorch_model.bin), or a .pt file of "
    "Microsoft's WavLM or of the published Vesper code."
)


class CheckpointError(ValueError):
    """A source that is not a readable, complete checkpoint of a supported encoder."""


def load_encoder(source, do_normalize=None):
    """Read an encoder.

    Arguments
    ---------
    source : str or Path
        Folder, ``.pt`` file, or hub id.
    do_normalize : bool, optional
        Overrides the waveform z-norm flag; None: ``preprocessor_config.json`` where there is
        one, else on for Large types and off for Base.

    Returns
    -------
    Encoder
        In eval mode.

    Raises
    ------
    CheckpointError
        Names the file that is wanted and the cure; lists missing and unexpected names.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        config, state = _read_folder(path, do_normalize)
    elif path.is_file():
        config, state = _read_pt(path, do_normalize)
    else:
        config, state = _read_folder(_fetch(str(source)), do_normalize)
    encoder = Encoder(config)
    load_strictly(encoder, state, source)
    return encoder.eval()


def save_encoder(encoder, folder):
    """Write a folder that ``WavLMModel`` or ``HubertModel.from_pretrained`` opens.

    Arguments
    ---------
    encoder : Encoder
    folder : str or Path
        Gets config.json, preprocessor_config.json and model.safetensors, each written under a
        temporary name and renamed.

    Returns
    -------
    Path
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = encoder.config
    state = {name: t.detach().cpu().contiguous() for name, t in encoder.state_dict().items()}
    _write(folder / "model.safetensors", lambda p: save_file(state, p, metadata={"format": "pt"}))
    for name, content in (
        ("config.json", config.to_transformers()),
        ("preprocessor_config.json", config.to_preprocessor()),
    ):
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
        _write(folder / name, lambda p, text=text: Path(p).write_text(text))
    return folder


def weights_hash(module, config=None):
    """SHA-256 over a module's parameter and buffer names, shapes, types, bytes, and its config.

    Arguments
    ---------
    module : torch.nn.Module
    config : EncoderConfig, optional
        Default: ``module.config`` where it has one.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(repr(config or getattr(module, "config", None)).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.hexdigest()


def load_strictly(module, state, source):
    """``load_state_dict`` that lists what is missing, unexpected or of another shape."""
    own = module.state_dict()
    missing = sorted(set(own) - set(state))
    unexpected = sorted(set(state) - set(own))
    shapes = [
        f"{name}: {tuple(state[name].shape)} for {tuple(own[name].shape)}"
        for name in sorted(set(own) & set(state))
        if state[name].shape != own[name].shape
    ]
    if missing or unexpected or shapes:
        raise CheckpointError(
            f"{source} does not fit this encoder.\n  missing: {missing or 'none'}\n"
            f"  unexpected: {unexpected or 'none'}\n  of another shape: {shapes or 'none'}"
        )
    module.load_state_dict(state)


def read_tensors(path):
    """The tensors of a ``.pt`` or ``.bin`` file, by weights-only unpickling.

    Classes the file names (a training configuration) become inert stand-ins, so no code of the
    file's choice runs.

    Arguments
    ---------
    path : Path

    Returns
    -------
    object
        What was saved, tensors real, foreign objects hollow.

    Raises
    ------
    CheckpointError
        When the file cannot be read this way.
    """
    try:
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except ValueError:  # not a zip archive: torch's legacy format, read without stand-ins
        foreign = []
    inert = [(_Inert, name) for name in foreign if not name.startswith("numpy.")]
    try:
        with torch.serialization.safe_globals(inert + _numpy_scalars()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises many types
        raise CheckpointError(f"{path}: not readable as tensors only ({error})") from error


class _Inert:
    """Stands for any class a checkpoint names: whatever it is given, an empty dictionary.

    An OrderedDict, because that is what the weights-only unpickler lets a pickle fill.
    """

    def __new__(cls, *_args, **_kwargs):
        return OrderedDict()


def _numpy_scalars():
    """NumPy's scalars and types: training loops leave them in checkpoints."""
    kinds = [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")]
    scalar = np._core.multiarray.scalar
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]


def _read_folder(folder, do_normalize):
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise CheckpointError(f"{config_file} is wanted and is not there. {CURE}")
    preprocessor = folder / "preprocessor_config.json"
    if do_normalize is None and preprocessor.is_file():
        do_normalize = json.loads(preprocessor.read_text()).get("do_normalize")
    try:
        config = EncoderConfig.from_transformers(json.loads(config_file.read_text()), do_normalize)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{config_file}: {error}") from error
    return config, _transformers_names(_folder_weights(folder), config)


def _folder_weights(folder):
    single, index, pickled = (folder / name for name in WEIGHTS)
    shards = [single]
    if index.is_file() and not single.is_file():
        weight_map = json.loads(index.read_text())["weight_map"]
        shards = [folder / shard for shard in sorted(set(weight_map.values()))]
    if single.is_file() or index.is_file():
        return {name: t for shard in shards for name, t in _load_safetensors(shard).items()}
    if pickled.is_file():
        return read_tensors(pickled)
    raise CheckpointError(f"{single} is wanted (or {WEIGHTS[2]}) and is not there. {CURE}")


def _load_safetensors(path):
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cut short, damaged or absent ({error}). {CURE}") from error


def _transformers_names(state, config):
    """Strip a task model's prefix and heads; weight norm in the parametrization's names."""
    prefix = f"{config.model_type}."
    if any(name.startswith(prefix) for name in state):
        heads = sorted(name for name in state if not name.startswith(prefix))
        if heads:
            logger.info("Heads of the checkpoint's own task are left out: %s", ", ".join(heads))
        state = {name.removeprefix(prefix): t for name, t in state.items() if name not in heads}
    conv = "encoder.pos_conv_embed.conv."
    renamed = {
        conv + "weight_g": conv + "parametrizations.weight.original0",
        conv + "weight_v": conv + "parametrizations.weight.original1",
    }
    return {renamed.get(name, name): tensor for name, tensor in state.items()}


def _read_pt(path, do_normalize):
    content = read_tensors(path)
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not is_fairseq_style(state):
        raise CheckpointError(
            f"{path}: no 'model' with WavLM's parameter names. A transformers checkpoint is given "
            f"as its folder. {CURE}"
        )
    state = {n: t for n, t in from_fairseq_names(state).items() if torch.is_tensor(t)}
    try:
        config = config_from_shapes(state, do_normalize)
    except KeyError as error:
        raise CheckpointError(f"{path}: the parameter {error} is missing") from error
    for leaf, fill in (("weight", torch.ones), ("bias", torch.zeros)):
        name = f"encoder.layer_norm.{leaf}"
        if name not in state and config.is_large_type:  # the published code drops it; unused here
            logger.info("%s: %s is absent and unused; set to its neutral value", path, name)
            state[name] = fill(config.hidden_size)
    return config, state


def _fetch(source):
    """Files of a hub id in the local cache; the folder they lie in."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise CheckpointError(f"{source}: no such file or folder. {CURE}")
    wanted = "config.json"
    try:
        folder = Path(hf_hub_download(source, wanted)).parent
        for wanted in ("preprocessor_config.json", *WEIGHTS):
            try:
                hf_hub_download(source, wanted)
            except EntryNotFoundError:
                continue
            if wanted == "model.safetensors":
                break
            if wanted.endswith("index.json"):
                weight_map = json.loads((folder / wanted).read_text())["weight_map"]
                for wanted in sorted(set(weight_map.values())):
                    hf_hub_download(source, wanted)
                break
        return folder
    except Exception as error:  # the hub client raises many types, offline and online
        raise CheckpointError(
            f"{source}: neither a local path nor to be had from the hub ({wanted} is wanted; "
            f"{type(error).__name__}). {CURE}"
        ) from error


def _write(path, write):
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        write(name)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
