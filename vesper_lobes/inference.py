"""The modules of an exported emotion classifier, as SpeechBrain's ``EncoderClassifier`` calls them.

``EncoderClassifier.from_hparams`` builds what the folder's ``hyperparams.yaml`` names, and then
calls, for every batch, ``compute_features(wavs)`` -> ``mean_var_norm(feats, wav_lens)`` ->
``embedding_model(feats, wav_lens)`` -> ``classifier(embeddings)`` -> ``label_encoder``. The classes
here fill these five places in this order; :func:`vesper_lobes.export.load_classifier` uses the
same embedding model and classifier, so both ways give the same answer.

Nothing here is ever silently random. SpeechBrain's own loading is not strict (wrong names leave
random weights and a log line), so every module refuses to answer until its file was loaded
strictly, and :class:`vesper_lobes.strict_loading.CheckedPretrainer` ends by comparing the loaded
model's answer to a fixed waveform with the one it gave when it was exported.
"""

import math

import torch
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.dataio.preprocess import AudioNormalizer
from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_transfer,
    register_checkpoint_hooks,
)
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from vesper_lobes.heads import SuperbHead
from vesper_lobes.lengths import FIELD, SAMPLE_RATE, sample_lengths
from vesper_lobes.long_audio import WINDOW_SECONDS, pool_long
from vesper_lobes.pooling import LayerMix, masked_mean
from vesper_lobes.strict_loading import existing, load_strictly, read_tensors

HEADS = {"superb": SuperbHead}  # heads on a pooled utterance, by their name in classifier.json
LONG_AUDIO_RULES = ("chunks", "first")
MAX_SECONDS = 30.0  # longest utterance in one pass where no crop is set
SECONDS_PER_PASS = 60.0  # of pieces that are encoded together: bounds memory on long recordings


def check_waveforms(wavs, lengths=None):
    """Refuse what has no emotion to find: a model returns a label for NaN and for nothing too.

    Arguments
    ---------
    wavs : torch.Tensor (B, S)
    lengths : torch.LongTensor (B,), optional
        Real samples of each row; None: all.

    Raises
    ------
    ValueError
        Wrong shape, integer samples, empty, NaN or infinite, or fewer than 400 real samples
        (25 ms, one frame).

    Example
    -------
    >>> check_waveforms(torch.zeros(1, 16000))
    >>> check_waveforms(torch.zeros(1, 100))
    Traceback (most recent call last):
      ...
    ValueError: audio too short: row 0 has 100 samples, at least 400 are needed (25 ms at 16 kHz)
    """
    if wavs.dim() != 2:
        shape = tuple(wavs.shape)
        raise ValueError(f"waveforms must be mono, (batch, samples); these have the shape {shape}")
    if not wavs.is_floating_point():
        raise ValueError(f"waveforms must be float in [-1, 1], these are {wavs.dtype}")
    if wavs.numel() == 0:
        raise ValueError(f"empty audio: {wavs.shape[0]} waveforms of {wavs.shape[1]} samples")
    finite = torch.isfinite(wavs).all(dim=1)
    if not finite.all():
        rows = (~finite).nonzero().flatten().tolist()
        raise ValueError(f"audio with NaN or infinite samples in rows {rows}")
    if lengths is None:
        lengths = sample_lengths(wavs)
    short = (lengths < FIELD).nonzero().flatten().tolist()
    if short:
        row, samples = short[0], int(lengths[short[0]])
        kind = "empty audio" if samples <= 0 else "audio too short"
        raise ValueError(
            f"{kind}: row {row} has {samples} samples, "
            f"at least {FIELD} are needed (25 ms at 16 kHz)"
        )


class WaveformGuard(nn.Module):
    """``compute_features``: the features are the waveform itself, once it is usable.

    The encoder normalises it (over real samples), so nothing else happens here.

    Example
    -------
    >>> WaveformGuard()(torch.full((1, 16000), float("nan")))
    Traceback (most recent call last):
      ...
    ValueError: audio with NaN or infinite samples in rows [0]
    """

    def forward(self, wavs):
        """(B, S) -> the same (B, S), or a ``ValueError``."""
        check_waveforms(wavs)
        return wavs


class PassThrough(nn.Module):
    """``mean_var_norm``: nothing. ``torch.nn.Identity`` does not take the lengths it is given."""

    def forward(self, feats, lengths=None):
        """Features as they are."""
        return feats


class MonoResampler(AudioNormalizer):
    """``audio_normalizer``: any rate and channels to 16 kHz mono, refusing empty and NaN audio.

    SpeechBrain's own, with the refusals in front: it resamples nothing without complaint.
    """

    def __call__(self, audio, sample_rate):
        """(S,) or (S, channels) at ``sample_rate`` Hz -> (S',) at 16 kHz."""
        if audio.numel() == 0:
            raise ValueError("empty audio: the file holds no samples")
        if not torch.isfinite(audio).all():
            raise ValueError("audio with NaN or infinite samples")
        return super().__call__(audio, sample_rate)


@register_checkpoint_hooks
class EmbeddingModel(nn.Module):
    """``embedding_model``: encoder, mix of its states, mean over the real frames.

    Long audio is cut, because the model was trained on crops and attention is quadratic in time.
    ``chunks`` cuts an utterance into the least number of equal pieces no longer than the crop and
    averages over all their frames (each piece normalised by itself, as a crop in training);
    ``first`` listens to the first crop only, as the published evaluation does. Shorter audio is
    one piece under both rules. A model trained without a crop hears up to 30 s at once and more in
    windows, which come closer to the whole pass (:mod:`vesper_lobes.long_audio`).

    Arguments
    ---------
    num_states : int
        N+1, layers and the input of the first.
    layer_mix : str
        "weighted_sum" or "last".
    crop_seconds : float, optional
        Longest piece; None: no pieces.
    long_audio : str
        "chunks" or "first".
    """

    def __init__(
        self, num_states, layer_mix="weighted_sum", crop_seconds=None, long_audio="chunks"
    ):
        super().__init__()
        if long_audio not in LONG_AUDIO_RULES:
            raise ValueError(f"long_audio {long_audio!r} is unknown: one of {LONG_AUDIO_RULES}")
        if crop_seconds is not None and not crop_seconds > 0:
            raise ValueError(f"crop_seconds must be positive, not {crop_seconds}")
        self.num_states, self.long_audio = num_states, long_audio
        self.longest = round((crop_seconds or MAX_SECONDS) * SAMPLE_RATE)  # samples
        self.windowed = crop_seconds is None and long_audio == "chunks"
        self.pieces_per_pass = max(1, int(SECONDS_PER_PASS * SAMPLE_RATE // self.longest))
        self.layer_mix = LayerMix(num_states, layer_mix)
        self.encoder = None  # set_encoder: there is no encoder with random weights
        self.mix_loaded = False

    def set_encoder(self, encoder):
        """Take a loaded encoder; refuses one of another depth."""
        if encoder.num_layers + 1 != self.num_states:
            raise ValueError(
                f"the encoder has {encoder.num_layers} layers, so {encoder.num_layers + 1} states; "
                f"the classifier was trained on {self.num_states}"
            )
        self.encoder = encoder

    @mark_as_transfer
    @mark_as_loader
    def load(self, path, end_of_epoch=False):
        """Strictly load ``embedding_model.ckpt``, the layer weights (the encoder has its file)."""
        self.load_mix(read_tensors(path), path)

    def load_mix(self, tensors, path):
        """Strictly load the layer weights from a dict of tensors; ``path`` is for the message."""
        load_strictly(self.layer_mix, tensors, path)
        self.mix_loaded = True

    def forward(self, wavs, wav_lens=None):
        """Embed utterances.

        Arguments
        ---------
        wavs : torch.Tensor (B, S)
            16 kHz mono.
        wav_lens : torch.Tensor (B,), optional
            Relative lengths.

        Returns
        -------
        torch.Tensor (B, 1, D)
            The shape of SpeechBrain's own embedding models.
        """
        if self.encoder is None or not self.mix_loaded:
            raise RuntimeError("the embedding model has no weights: its files were not loaded")
        if wav_lens is not None and not (wav_lens > 0).all():
            raise ValueError(f"empty audio: relative lengths {wav_lens.tolist()}")
        lengths = sample_lengths(wavs, wav_lens)
        check_waveforms(wavs, lengths)
        pieces, owner = self._pieces(wavs, lengths)
        sums = wavs.new_zeros(wavs.shape[0], self.encoder.hidden_size, dtype=torch.float32)
        frames = wavs.new_zeros(wavs.shape[0], dtype=torch.float32)
        for first in range(0, len(pieces), self.pieces_per_pass):
            rows = owner[first : first + self.pieces_per_pass]
            means, counts = self._embed(pieces[first : first + self.pieces_per_pass])
            sums = sums.index_add(0, rows, means.float() * counts.unsqueeze(-1))
            frames = frames.index_add(0, rows, counts)
        embedded = sums / frames.clamp(min=1).unsqueeze(-1)
        for row in self._rows_in_windows(lengths):
            states = pool_long(self.encoder, wavs[row, : lengths[row]], name=f"utterance {row}")
            embedded[row] = self.layer_mix(states.unsqueeze(0))[0]
        return embedded.unsqueeze(1)  # (B, 1, D)

    def how_heard(self, seconds):
        """What happens to audio of this length, in words; "" where it is heard at once.

        Example
        -------
        >>> EmbeddingModel(num_states=5, crop_seconds=6.5).how_heard(600)
        '600 s, heard in 93 pieces of at most 6.5 s'
        """
        crop = self.longest / SAMPLE_RATE
        if seconds <= crop:
            return ""
        if self.long_audio == "first":
            return f"{seconds:.0f} s, of which the first {crop:g} s are heard"
        if self.windowed:
            return f"{seconds:.0f} s, heard in windows of at most {WINDOW_SECONDS:g} s"
        return f"{seconds:.0f} s, heard in {math.ceil(seconds / crop)} pieces of at most {crop:g} s"

    def _rows_in_windows(self, lengths):
        """Numbers of the rows that are too long for one pass and not cut into crops."""
        if not self.windowed:
            return []
        return [row for row, length in enumerate(lengths.tolist()) if length > self.longest]

    def _pieces(self, wavs, lengths):
        """Cut rows at their real length, long ones into pieces; and each piece's row."""
        pieces, owner = [], []
        in_windows = self._rows_in_windows(lengths)
        for row, (wav, length) in enumerate(zip(wavs, lengths.tolist(), strict=True)):
            if row in in_windows:
                continue
            if self.long_audio == "first":
                length = min(length, self.longest)
            count = -(-length // self.longest)
            pieces.extend(wav[:length].tensor_split(count))
            owner.extend([row] * count)
        return pieces, torch.tensor(owner, dtype=torch.long, device=wavs.device)

    def _embed(self, pieces):
        """Mean over the frames of the mixed states (P, D), and the number of frames (P,)."""
        sizes = torch.tensor([len(piece) for piece in pieces], device=pieces[0].device)
        padded = pad_sequence(pieces, batch_first=True)  # (P, S)
        states, frames = self.encoder(padded, sizes.double() / padded.shape[1])
        return masked_mean(self.layer_mix(states), frames), frames.float()


@register_checkpoint_hooks
class LogProbabilities(nn.Module):
    """``classifier``: a head on the embedding, as log-probabilities.

    Arguments
    ---------
    head : str
        A name in ``HEADS``.
    **sizes
        What the head's class takes (input_dim, num_classes, hidden).
    """

    def __init__(self, head, **sizes):
        super().__init__()
        if head not in HEADS:
            raise ValueError(f"head {head!r} is unknown: choose one of {sorted(HEADS)}")
        self.head = HEADS[head](**sizes)
        self.head_loaded = False

    @mark_as_transfer
    @mark_as_loader
    def load(self, path, end_of_epoch=False):
        """Strictly load ``classifier.ckpt``."""
        self.load_head(read_tensors(path), path)

    def load_head(self, tensors, path):
        """Strictly load the head from a dict of tensors; ``path`` is for the message."""
        load_strictly(self.head, tensors, path)
        self.head_loaded = True

    def forward(self, embeddings):
        """(B, 1, D) -> log-probabilities (B, 1, C)."""
        if not self.head_loaded:
            raise RuntimeError("the classifier has no weights: its file was not loaded")
        return self.head(embeddings.squeeze(1)).log_softmax(dim=-1).unsqueeze(1)


@register_checkpoint_hooks
class ClassLabels(CategoricalEncoder):
    """``label_encoder``: the classes in their fixed order; its file must say the same.

    SpeechBrain's own loads a missing or broken file as no labels at all, and says nothing.

    Example
    -------
    >>> ClassLabels(["angry", "sad"]).decode_torch(torch.tensor([1, 0]))
    ['sad', 'angry']
    """

    def __init__(self, classes):
        super().__init__()
        self.classes = list(classes)
        self.update_from_iterable(self.classes)
        self.expect_len(len(self.classes))

    @mark_as_transfer
    @mark_as_loader
    def load_checked(self, path, end_of_epoch=False):
        """Read ``label_encoder.ckpt`` and compare it with the classes of the YAML."""
        try:
            self.load(existing(path))
        except (ValueError, SyntaxError) as error:
            raise ValueError(f"{path}: not a label file ({error})") from error
        found = [self.ind2lab[index] for index in sorted(self.ind2lab)]
        if found != self.classes:
            raise ValueError(f"{path}: classes {found}, the model was trained on {self.classes}")
