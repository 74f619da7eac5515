"""Pooled states of a frozen encoder, computed once for each utterance and kept on disk.

The SUPERB head is affine and the mix of states is linear, so both commute with the mean over time:
training them on the cached means ``(L+1, D)`` is *exactly* training them on frames, at a few
thousandths of the cost. A frozen encoder gives the same states in every epoch, fold and seed, so no
utterance passes through it twice. Nothing stale is ever served: see :mod:`vesper_lobes.cache_keys`.
"""

import contextlib
import json
import os
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import torch
from tqdm import tqdm

from vesper_lobes.audio import crop_or_keep, read_audio
from vesper_lobes.cache_keys import CacheSettings, audio_keys
from vesper_lobes.checkpoints import weights_hash
from vesper_lobes.lengths import FIELD
from vesper_lobes.pooling import masked_mean
from vesper_lobes.shard_store import ShardStore

BATCH_SECONDS = {"cpu": 40.0}  # padded audio in a batch: 8 utterances of 5 s
BATCH_SECONDS_ELSEWHERE = 400.0
PREFETCHED_BATCHES = 2


class PooledStateCache:
    """Time means over real frames of all L+1 states, float32, by utterance.

    Arguments
    ---------
    encoder : Encoder
        Frozen, or at least in eval mode.
    folder : str or pathlib.Path
        Caches of all encoders and settings may share it: each has a subfolder named by its key.
    crop_seconds : float, optional
        Longer utterances are cut to this (fine-tuning: 6.5 IEMOCAP, 4.5 MELD, 3.0 CREMA-D); None
        takes them whole.
    crop_rule : str
        "first" (the start is kept, as in the published code) or "centre".
    precision : str
        "fp32", outside any autocast and with TF32 convolutions off, or "bf16" (autocast; means in
        float32).
    device : str or torch.device
        Where the encoder runs while the cache is filled; it is moved back afterwards. Not part of
        the key.
    batch_seconds : float, optional
        Padded seconds of audio in a batch.
    shard_rows, shard_seconds : int, float
        A shard is written after so many utterances or so much time, whichever is first; a killed
        run loses at most this.
    progressbar : bool

    Raises
    ------
    ValueError
        The encoder is in train mode, where dropout would make the states noise.

    Example
    -------
    >>> import tempfile, pandas
    >>> from vesper_lobes.config import EncoderConfig
    >>> from vesper_lobes.encoder import Encoder
    >>> folder = tempfile.mkdtemp()
    >>> soundfile.write(f"{folder}/a.wav", np.random.default_rng(0).normal(0, 0.1, 8000), 16000)
    >>> rows = pandas.DataFrame({"ID": ["a"], "wav": [f"{folder}/a.wav"], "start": 0, "stop": -1})
    >>> encoder = Encoder(EncoderConfig.mini_large(num_hidden_layers=2)).freeze()
    >>> cache = PooledStateCache(encoder, folder, progressbar=False).fill(rows)
    >>> cache.states().shape  # (N, L+1, D)
    torch.Size([1, 3, 192])
    >>> cache["a"].shape
    torch.Size([3, 192])
    """

    def __init__(
        self,
        encoder,
        folder,
        crop_seconds=None,
        crop_rule="first",
        precision="fp32",
        device="cpu",
        batch_seconds=None,
        shard_rows=512,
        shard_seconds=60.0,
        progressbar=True,
    ):
        if any(module.training for module in encoder.modules()):
            raise ValueError("the encoder is in train mode: call encoder.freeze() before caching")
        self.encoder = encoder
        self.device = torch.device(device)
        default = BATCH_SECONDS.get(self.device.type, BATCH_SECONDS_ELSEWHERE)
        self.batch_seconds = batch_seconds or default
        self.shard_rows = shard_rows
        self.shard_seconds = shard_seconds
        self.progressbar = progressbar
        self.settings = CacheSettings(
            kind="pooled",
            weights=weights_hash(encoder),
            do_normalize=bool(encoder.config.do_normalize),
            crop_seconds=crop_seconds,
            crop_rule=crop_rule,
            precision=precision,
        )
        self.folder = Path(folder) / f"pooled-{self.settings.key()[:24]}"
        shape = (encoder.num_layers + 1, encoder.hidden_size)
        self.store = ShardStore(self.folder / "shards", shape)
        self.keys = {}  # ID -> audio key
        _describe(self.folder / "settings.json", self.settings.as_dict())

    def fill(self, rows):
        """Compute what is missing of some utterances; ready ones cost a hash of their audio.

        Arguments
        ---------
        rows : pandas.DataFrame
            Columns ID, wav (``$data_root`` resolved), start, stop; ``duration`` (seconds), where
            given, spares a look at each header. IDs may be filled in several calls.

        Returns
        -------
        PooledStateCache
            Itself.

        Raises
        ------
        ValueError
            Naming utterance and file: audio that cannot be used or is shorter than one frame, an
            ID that is there twice; also if the encoder's weights changed since the cache was made.
            What was computed before stays.
        """
        if rows["ID"].duplicated().any():
            twice = rows["ID"][rows["ID"].duplicated()].iloc[0]
            raise ValueError(f"{twice}: this ID is there twice")
        keys = audio_keys(rows)
        self.store.refresh()
        jobs = {}  # key -> (ID, wav, start, stop, seconds); equal audio is one job
        missing = [key not in self.store for key in keys]
        columns = [rows[name][missing] for name in ("ID", "wav", "start", "stop")]
        lengths = _seconds(rows[missing], self.settings.crop_seconds)
        pending = [key for key, is_missing in zip(keys, missing, strict=True) if is_missing]
        for key, *job in zip(pending, *columns, lengths, strict=True):
            jobs[key] = tuple(job)
        if jobs:
            self._compute(jobs, ready=len(set(keys)) - len(jobs))
        self.keys.update(zip(rows["ID"], keys, strict=True))
        return self

    def states(self, ids=None):
        """States of some utterances in memory.

        Arguments
        ---------
        ids : list of str, optional
            Default: all that were filled, in their order.

        Returns
        -------
        torch.FloatTensor (N, L+1, D)
        """
        ids = list(self.keys if ids is None else ids)
        return torch.from_numpy(self.store.take([self._key(name) for name in ids]))

    def __getitem__(self, name):
        """States of one utterance, (L+1, D)."""
        return torch.from_numpy(self.store.take([self._key(name)])[0])

    def __len__(self):
        return len(self.keys)

    def __contains__(self, name):
        return name in self.keys

    def _key(self, name):
        if name not in self.keys:
            raise KeyError(f"{name} is not in this cache: call fill() with its manifest row first")
        return self.keys[name]

    def _compute(self, jobs, ready):
        """Run the encoder over jobs, longest first, and write shards as they fill up."""
        if weights_hash(self.encoder) != self.settings.weights:
            raise ValueError(
                "the encoder's weights changed since the cache was made: make a new one"
            )
        batches = _bucketed(jobs, self.batch_seconds)
        bar = tqdm(
            total=len(jobs) + ready,
            initial=ready,
            desc="Encoding",
            unit="utt",
            disable=not self.progressbar,
        )
        done, began = [], time.monotonic()  # (keys, states (B, L+1, D)) of each batch
        with bar, self._encoder_ready(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            try:
                for keys, wavs in self._read_ahead(batches, jobs, pool):
                    done.append((keys, self._pooled(wavs, [jobs[key] for key in keys])))
                    bar.update(len(keys))
                    late = time.monotonic() - began > self.shard_seconds
                    if late or sum(len(keys) for keys, _ in done) >= self.shard_rows:
                        self._write(done)
                        done, began = [], time.monotonic()
            finally:  # a bad file or Ctrl-C costs nothing that is already computed
                self._write(done)

    def _write(self, done):
        if done:
            keys, states = zip(*done, strict=True)
            self.store.add(sum(keys, []), np.concatenate(states))

    def _read_ahead(self, batches, jobs, pool):
        """(keys, waveforms) of each batch, read by threads while the encoder is busy."""
        ahead = deque()
        try:
            for keys in [*batches, *[None] * PREFETCHED_BATCHES]:
                futures = [pool.submit(self._read, *jobs[key]) for key in keys or ()]
                ahead.append((keys, futures))
                if len(ahead) > PREFETCHED_BATCHES:
                    ready, futures = ahead.popleft()
                    yield ready, [future.result() for future in futures]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, name, wav, start, stop, seconds):
        try:
            samples = read_audio(wav, start, stop, self.settings.sample_rate)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        if len(samples) < FIELD:
            milliseconds = 1000 * len(samples) / self.settings.sample_rate
            raise ValueError(
                f"{name}: {wav}: {milliseconds:.1f} ms, shorter than one frame (25 ms)"
            )
        return crop_or_keep(samples, self.settings.crop_seconds, self.settings.crop_rule or "first")

    def _pooled(self, wavs, jobs):
        """List of waveforms -> (B, L+1, D) float32 array."""
        lengths = torch.tensor([len(wav) for wav in wavs])
        batch = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)  # (B, S)
        relative = lengths / batch.shape[1]
        out = self.encoder(batch.to(self.device), relative.to(self.device))
        pooled = torch.stack([masked_mean(s.float(), out.lengths) for s in out.states], dim=1)
        pooled = pooled.cpu()  # (B, L+1, D)
        bad = ~torch.isfinite(pooled).flatten(1).all(1)
        if bad.any():
            name, wav, *_ = jobs[int(bad.nonzero()[0])]
            raise ValueError(f"{name}: {wav}: the encoder's states are not finite")
        return pooled.numpy()

    @contextlib.contextmanager
    def _encoder_ready(self):
        """Encoder on the device, no gradients, and exactly the precision asked for."""
        home = next(self.encoder.parameters()).device
        half = self.settings.precision == "bf16"
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        autocast = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half)
        self.encoder.to(self.device)
        try:
            # no inference mode: tensors a module keeps from it could never be trained with
            with torch.no_grad(), exact, autocast:
                yield
        finally:
            self.encoder.to(home)


def _bucketed(jobs, batch_seconds):
    """Lists of keys of about equal length, longest first (too big a batch fails at once)."""
    batches, width = [], 0.0
    for key in sorted(jobs, key=lambda key: (-jobs[key][-1], key)):
        if not batches or (len(batches[-1]) + 1) * width > batch_seconds:
            batches.append([])
            width = jobs[key][-1]
        batches[-1].append(key)
    return batches


def _seconds(rows, crop_seconds):
    """Seconds of each row as it will be encoded, for batching only."""
    if "duration" in rows:
        seconds = [float(value) for value in rows["duration"]]
    else:
        seconds = [_header_seconds(*row) for row in rows[["wav", "start", "stop"]].to_numpy()]
    return [min(value, crop_seconds or value) for value in seconds]


def _header_seconds(wav, start, stop):
    try:
        info = soundfile.info(str(wav))
    except (soundfile.SoundFileError, RuntimeError):
        return 0.0  # reading it will say what is wrong
    return ((info.frames if stop == -1 else stop) - start) / info.samplerate


def _describe(path, settings):
    """A readable note of what the folder holds; the key in its name is what counts."""
    if not path.is_file():
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)
