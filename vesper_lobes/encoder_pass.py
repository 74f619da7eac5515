"""A frozen encoder over a corpus, once: audio read ahead, utterances in batches of equal length.

Both caches of states are filled by it (:mod:`vesper_lobes.feature_cache`: time means;
:mod:`vesper_lobes.frame_cache`: frames). What is longer than a minute goes through the encoder
alone and in windows (:mod:`vesper_lobes.long_audio`), and its key says so.
"""

import contextlib
import hashlib
import math
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import soundfile
import torch

from vesper_lobes.audio import crop_or_keep, read_audio
from vesper_lobes.cache_keys import audio_keys
from vesper_lobes.checkpoints import weights_hash
from vesper_lobes.encoder import EncoderOutput
from vesper_lobes.lengths import FIELD
from vesper_lobes.long_audio import (
    CONTEXT_SECONDS,
    LONG_SECONDS,
    WINDOW_SECONDS,
    encode_long,
    pool_long,
)
from vesper_lobes.tar_member import tar_member

BATCH_SECONDS = {"cpu": 40.0}  # padded audio in a batch: 8 utterances of 5 s
BATCH_SECONDS_ELSEWHERE = 400.0
PREFETCHED_BATCHES = 2


def windows():
    """How recordings beyond `LONG_SECONDS` are cut: words for the keys of what depends on it."""
    return f"windows of {WINDOW_SECONDS} s, {CONTEXT_SECONDS} s more on both sides"


class Job(NamedTuple):
    """An utterance to encode: its ID, file, part of it (samples), and seconds for batching."""

    name: str
    wav: str
    start: int
    stop: int
    seconds: float

    @property
    def is_long(self):
        """Whether it is encoded in windows."""
        return self.seconds > LONG_SECONDS


class EncoderPass:
    """Runs a frozen encoder as a cache's settings say.

    Arguments
    ---------
    encoder : Encoder
        In eval mode.
    settings : CacheSettings
        Crop, sample rate and precision. Where their kind is "pooled", only means are wanted.
    device : str or torch.device
        Where the encoder runs; it is moved back afterwards.
    batch_seconds : float, optional
        Padded seconds of audio in a batch; default 40 on the CPU and 400 elsewhere.
    """

    def __init__(self, encoder, settings, device="cpu", batch_seconds=None):
        self.encoder = encoder
        self.settings = settings
        self.device = torch.device(device)
        default = BATCH_SECONDS.get(self.device.type, BATCH_SECONDS_ELSEWHERE)
        self.batch_seconds = batch_seconds or default

    def keys(self, rows):
        """One key an utterance: its audio, and how it is cut into windows, where it is.

        Arguments
        ---------
        rows : pandas.DataFrame
            As for `jobs`.

        Returns
        -------
        list of str
            Those of `audio_keys` for all that passes whole.
        """
        keys = audio_keys(rows)
        return [
            hashlib.sha256(f"{key} {windows()}".encode()).hexdigest() if job.is_long else key
            for key, job in zip(keys, self._listed(rows), strict=True)
        ]

    def jobs(self, rows, keys):
        """What to encode, by key; equal audio is one job.

        Arguments
        ---------
        rows : pandas.DataFrame
            Columns ID, wav, start, stop, and duration where known.
        keys : list of str
            Of each row.

        Returns
        -------
        dict of Job
        """
        return dict(zip(keys, self._listed(rows), strict=True))

    def outputs(self, jobs):
        """Encode jobs, longest first.

        Arguments
        ---------
        jobs : dict of Job

        Yields
        ------
        keys : list of str
        output : EncoderOutput
            Of these utterances, in this order, on the device. For pooled caches an utterance in
            windows has one frame, the mean of all: memory then does not grow with its length.

        Raises
        ------
        ValueError
            Naming utterance and file: audio that cannot be used or is shorter than one frame; also
            if the encoder's weights are not those of the settings any more.
        """
        if weights_hash(self.encoder) != self.settings.weights:
            raise ValueError(
                "the encoder's weights changed since the cache was made: make a new one"
            )
        batches = _bucketed(jobs, self.batch_seconds)
        with self._encoder_on_device(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for keys, wavs in self._read_ahead(batches, jobs, pool):
                with self._precision():
                    output = self._encode([jobs[key] for key in keys], wavs)
                yield keys, output

    def _encode(self, jobs, wavs):
        """EncoderOutput of a batch: waveforms (S,) that pass whole, or one in windows."""
        if jobs[0].is_long:
            return self._encode_long(wavs[0], jobs[0].name)
        lengths = torch.tensor([len(wav) for wav in wavs])
        batch = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)  # (B, S)
        relative = lengths / batch.shape[1]
        return self.encoder(batch.to(self.device), relative.to(self.device))

    def _encode_long(self, wav, name):
        if self.settings.kind != "pooled":
            return encode_long(self.encoder, wav, name=name)
        means = pool_long(self.encoder, wav, name=name)  # (N+1, D)
        one = torch.ones(1, dtype=torch.long, device=means.device)
        return EncoderOutput(tuple(mean.view(1, 1, -1) for mean in means), one)

    def _listed(self, rows):
        """The job of each row."""
        columns = [rows[name] for name in ("ID", "wav", "start", "stop")]
        seconds = _seconds(rows, self.settings.crop_seconds)
        return [Job(*job) for job in zip(*columns, seconds, strict=True)]

    def _read_ahead(self, batches, jobs, pool):
        """(keys, waveforms) of each batch, read by threads while the encoder is busy."""
        ahead = deque()
        try:
            for keys in [*batches, *[None] * PREFETCHED_BATCHES]:
                futures = [pool.submit(self._read, jobs[key]) for key in keys or ()]
                ahead.append((keys, futures))
                if len(ahead) > PREFETCHED_BATCHES:
                    ready, futures = ahead.popleft()
                    yield ready, [future.result() for future in futures]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, job):
        settings = self.settings
        try:
            samples = read_audio(job.wav, job.start, job.stop, settings.sample_rate)
        except ValueError as error:
            raise ValueError(f"{job.name}: {error}") from error
        if len(samples) < FIELD:
            milliseconds = 1000 * len(samples) / settings.sample_rate
            raise ValueError(
                f"{job.name}: {job.wav}: {milliseconds:.1f} ms, shorter than one frame (25 ms)"
            )
        return crop_or_keep(samples, settings.crop_seconds, settings.crop_rule or "first")

    @contextlib.contextmanager
    def _encoder_on_device(self):
        home = next(self.encoder.parameters()).device
        self.encoder.to(self.device)
        try:
            yield
        finally:
            self.encoder.to(home)

    @contextlib.contextmanager
    def _precision(self):
        """No gradients, and exactly the precision asked for, whatever the caller's is."""
        half = self.settings.precision == "bf16"
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        autocast = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half)
        # no inference mode: tensors a module keeps from it could never be trained with
        with torch.no_grad(), exact, autocast:
            yield


def _bucketed(jobs, batch_seconds):
    """Lists of keys of about equal length, longest first (too big a batch fails at once).

    What is encoded in windows is alone.
    """
    batches, width = [], math.inf
    for key in sorted(jobs, key=lambda key: (-jobs[key].seconds, key)):
        if width > LONG_SECONDS or (len(batches[-1]) + 1) * width > batch_seconds:
            batches.append([])
            width = jobs[key].seconds
        batches[-1].append(key)
    return batches


def _seconds(rows, crop_seconds):
    """Seconds of each row as it will be encoded."""
    if "duration" in rows:
        seconds = [float(value) for value in rows["duration"]]
    else:
        seconds = [_header_seconds(*row) for row in rows[["wav", "start", "stop"]].to_numpy()]
    return [min(value, crop_seconds or value) for value in seconds]


def _header_seconds(wav, start, stop):
    try:
        info = soundfile.info(tar_member(wav) or str(wav))
    except (soundfile.SoundFileError, RuntimeError):
        return 0.0  # reading it will say what is wrong
    return ((info.frames if stop == -1 else stop) - start) / info.samplerate
