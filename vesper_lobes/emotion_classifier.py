"""Emotion classification in plain Python: waveforms or files in, labels and probabilities out.

Made by :func:`vesper_lobes.export.load_classifier`. It runs the very modules that SpeechBrain's
``EncoderClassifier`` runs (:mod:`vesper_lobes.inference`), so both give the same answers.
"""

import os
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torchaudio.functional import resample

from vesper_lobes.audio import read_audio
from vesper_lobes.inference import check_waveforms
from vesper_lobes.lengths import SAMPLE_RATE


class Predictions(NamedTuple):
    """``labels``: N strings; ``probabilities``: (N, C) float32 on the CPU, rows sum to 1."""

    labels: list
    probabilities: torch.Tensor


class EmotionClassifier:
    """Encoder, layer mix and head of an exported folder.

    Arguments
    ---------
    embedding_model, classifier : torch.nn.Module
        ``EmbeddingModel`` and ``LogProbabilities``, with their weights.
    classes : list of str
        In the order of the probabilities.
    description : dict
        The folder's classifier.json.
    device : str or torch.device, optional
        None: the GPU if there is one.
    """

    def __init__(self, embedding_model, classifier, classes, description=None, device=None):
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.embedding_model = embedding_model.to(self.device).eval().requires_grad_(False)
        self.classifier = classifier.to(self.device).eval().requires_grad_(False)
        self.classes = list(classes)
        self.description = description or {}

    def classify(self, audio, sample_rate=SAMPLE_RATE, batch_size=8):
        """Label utterances.

        Arguments
        ---------
        audio : str, os.PathLike, torch.Tensor, numpy.ndarray, or a list of these
            Files of any rate and channels; or mono waveforms in [-1, 1], (S,) or (B, S) unpadded.
            A list may mix lengths: each answer is that of the utterance alone.
        sample_rate : int
            Of waveforms, in Hz (files know theirs).
        batch_size : int
            Utterances in one pass.

        Returns
        -------
        Predictions

        Raises
        ------
        ValueError
            Naming the file or position: unreadable, empty, NaN, shorter than 400 samples.
        """
        log_probabilities = [
            self.classifier(embeddings).squeeze(1)
            for embeddings in self._embeddings(audio, sample_rate, batch_size)
        ]
        probabilities = torch.cat(log_probabilities).float().exp().cpu()  # (N, C)
        labels = [self.classes[index] for index in probabilities.argmax(dim=-1).tolist()]
        return Predictions(labels, probabilities)

    def encode(self, audio, sample_rate=SAMPLE_RATE, batch_size=8):
        """Embed utterances: as :meth:`classify`, to the (N, D) features that the head reads."""
        embeddings = list(self._embeddings(audio, sample_rate, batch_size))
        return torch.cat(embeddings).squeeze(1).float().cpu()

    @torch.no_grad()
    def _embeddings(self, audio, sample_rate, batch_size):
        """Yield (B, 1, D) for one batch after the other, so that only one is in memory."""
        items = _as_list(audio)
        for first in range(0, len(items), batch_size):
            batch = items[first : first + batch_size]
            wavs = [_waveform(x, sample_rate, first + i) for i, x in enumerate(batch)]
            sizes = torch.tensor([len(wav) for wav in wavs], device=self.device)
            padded = pad_sequence(wavs, batch_first=True).to(self.device)  # (B, S)
            yield self.embedding_model(padded, sizes.double() / padded.shape[1])


def _as_list(audio):
    single = isinstance(audio, (str, os.PathLike)) or getattr(audio, "ndim", None) == 1
    items = [audio] if single else list(audio)
    if not items:
        raise ValueError("empty audio: nothing to classify")
    return items


def _waveform(item, sample_rate, position):
    """A file, tensor or array as a checked (S,) float32 tensor at 16 kHz."""
    is_file = isinstance(item, (str, os.PathLike))
    name = os.fspath(item) if is_file else f"waveform {position}"
    wav = read_audio(item) if is_file else torch.as_tensor(np.asarray(item))
    try:
        if wav.dim() != 1:
            raise ValueError(f"waveforms must be mono, (samples,); this has {tuple(wav.shape)}")
        if not is_file and sample_rate != SAMPLE_RATE and wav.is_floating_point() and len(wav):
            wav = resample(wav, sample_rate, SAMPLE_RATE)
        check_waveforms(wav.unsqueeze(0))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return wav.float()
