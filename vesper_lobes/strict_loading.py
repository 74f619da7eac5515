"""Loading an exported classifier so that nothing stays silently random.

SpeechBrain's Pretrainer loads non-strictly: a wrong name leaves random weights and a log line, and
a missing label file leaves no labels. Here every name and shape must agree, files hold tensors
only, and the loaded model's answer to a fixed waveform must be the one stored at export.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from speechbrain.utils.fetching import FetchConfig, LocalStrategy, fetch
from speechbrain.utils.parameter_transfer import Pretrainer

from vesper_lobes.checkpoints import load_encoder
from vesper_lobes.self_check import check_answer

ENCODER_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
DEFAULT_FETCH = FetchConfig()


class CheckedPretrainer(Pretrainer):
    """SpeechBrain's Pretrainer, strict: it also fetches the encoder, and checks the loaded model.

    The encoder is read from the folder's transformers files (config.json,
    preprocessor_config.json, model.safetensors), so its weights are stored once.

    Arguments
    ---------
    loadables : dict
        embedding_model, classifier, label_encoder.
    self_check : dict
        What :func:`answer_to_reference` gave when the folder was written.

    Raises
    ------
    FileNotFoundError, ValueError, RuntimeError
        A file is missing; has other names or shapes; a ``savedir`` holds another model's files; or
        the loaded model's answer is not the stored one.
    """

    def __init__(self, loadables, self_check, **kwargs):
        super().__init__(loadables=loadables, **kwargs)
        self.self_check = self_check
        self.encoder_folder = None

    def collect_files(
        self,
        default_source=None,
        local_strategy=LocalStrategy.SYMLINK,
        fetch_config=DEFAULT_FETCH,
    ):
        """As SpeechBrain's, and the encoder's three files."""
        self._refuse_stale(default_source)
        collected = super().collect_files(default_source, local_strategy, fetch_config)
        for name in ENCODER_FILES:
            path = fetch(
                name,
                source=default_source,
                savedir=self.collect_in,
                local_strategy=local_strategy,
                fetch_config=fetch_config,
            )
            collected[name] = existing(path)
        self.encoder_folder = Path(path).parent
        return collected

    def load_collected(self):
        """Load everything strictly, then compare the answer to the reference waveform."""
        if self.encoder_folder is None:
            raise ValueError("collect_files() comes before load_collected()")
        self.loadables["embedding_model"].set_encoder(read_encoder(self.encoder_folder))
        super().load_collected()
        check_answer(
            self.loadables["embedding_model"],
            self.loadables["classifier"],
            self.self_check,
            self.encoder_folder,
        )

    def _refuse_stale(self, source):
        """A file already in ``savedir`` wins over the source: it must be the same model's."""
        name = "hyperparams.yaml"
        if self.collect_in is None or source is None or not isinstance(source, (str, Path)):
            return
        ours, theirs = self.collect_in / name, Path(source) / name
        if ours.is_file() and theirs.is_file() and ours.read_bytes() != theirs.read_bytes():
            raise ValueError(
                f"savedir {self.collect_in} holds another model than {source}, and its files would "
                "be used: empty it, choose another, or leave savedir out"
            )


def read_encoder(folder):
    """The exported encoder; a damaged model.safetensors is a ``ValueError`` that names it."""
    try:
        return load_encoder(folder)
    except SafetensorError as error:
        raise ValueError(f"{folder}/model.safetensors: damaged, not readable ({error})") from error


def read_tensors(path):
    """A .ckpt file as a dict of tensors; anything else in it is refused, and nothing is run."""
    try:
        tensors = torch.load(existing(path), map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{path}: not a file of tensors only, refused ({error})") from error
    if not isinstance(tensors, dict) or not all(torch.is_tensor(t) for t in tensors.values()):
        raise ValueError(f"{path}: not a dict of tensors")
    return tensors


def load_strictly(module, tensors, path):
    """``load_state_dict`` where every name and shape must agree; the error names the file."""
    try:
        module.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{path}: not the weights of this model. {error}") from error


def existing(path):
    """The path, if there is a file; else ``FileNotFoundError`` with the cure."""
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path} is missing: an exported model needs all of its files, copy the whole folder"
        )
    return Path(path)
