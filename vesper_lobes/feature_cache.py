"""States of a frozen encoder, computed once for each utterance and kept on disk.

The SUPERB head is affine and the mix of states is linear, so both commute with the mean over time:
training them on the cached means ``(L+1, D)`` is *exactly* training them on frames, at a few
thousandths of the cost. Heads that want frames have :mod:`vesper_lobes.frame_cache`. A frozen
encoder gives the same states in every epoch, fold and seed, so no utterance passes through it
twice. Nothing stale is ever served: see :mod:`vesper_lobes.cache_keys`.
"""

import json
import os
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from vesper_lobes.cache_keys import CacheSettings
from vesper_lobes.checkpoints import weights_hash
from vesper_lobes.encoder_pass import EncoderPass
from vesper_lobes.pooling import masked_mean
from vesper_lobes.shard_store import ShardStore

SHARD_BYTES = 256 << 20  # frames in memory before they are written


class StateCache:
    """What the caches of pooled states and of frames share: filling, keys, shards.

    Arguments
    ---------
    encoder : Encoder
        Frozen, or at least in eval mode.
    folder : str or pathlib.Path
        Caches of all encoders and settings may share it: each has a subfolder named by its key.
    kind : str
        What is kept of an utterance; its first word begins the subfolder's name.
    shape : tuple of int
        Of one row of the store.
    dtype : numpy.dtype
        Of the store.
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
        A shard is written after so many utterances or so much time, whichever is first (or 256
        MiB of frames); a killed run loses at most this.
    progressbar : bool

    Raises
    ------
    ValueError
        The encoder is in train mode, where dropout would make the states noise.
    """

    def __init__(
        self,
        encoder,
        folder,
        kind,
        shape,
        dtype=np.float32,
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
        self.shard_rows = shard_rows
        self.shard_seconds = shard_seconds
        self.progressbar = progressbar
        self.settings = CacheSettings(
            kind=kind,
            weights=weights_hash(encoder),
            do_normalize=bool(encoder.config.do_normalize),
            crop_seconds=crop_seconds,
            crop_rule=crop_rule,
            precision=precision,
        )
        self.encoding = EncoderPass(encoder, self.settings, device, batch_seconds)
        self.folder = Path(folder) / f"{kind.split()[0]}-{self.settings.key()[:24]}"
        self.store = ShardStore(self.folder / "shards", shape, dtype)
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
        StateCache
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
        keys = self.encoding.keys(rows)
        self.store.refresh()
        missing = [key not in self.store for key in keys]
        pending = [key for key, is_missing in zip(keys, missing, strict=True) if is_missing]
        jobs = self.encoding.jobs(rows[missing], pending)
        if jobs:
            self._announce(jobs)
            self._compute(jobs, ready=len(set(keys)) - len(jobs))
        self.keys.update(zip(rows["ID"], keys, strict=True))
        return self

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
        bar = tqdm(
            total=len(jobs) + ready,
            initial=ready,
            desc="Encoding",
            unit="utt",
            disable=not self.progressbar,
        )
        done, began = [], time.monotonic()  # (keys, rows of the store, rows of each key) by batch
        with bar, closing(self.encoding.outputs(jobs)) as batches:
            try:
                for keys, output in batches:
                    done.append((keys, *self._rows(output, [jobs[key] for key in keys])))
                    bar.update(len(keys))
                    late = time.monotonic() - began > self.shard_seconds
                    full = sum(len(keys) for keys, *_ in done) >= self.shard_rows
                    if late or full or sum(rows.nbytes for _, rows, _ in done) >= SHARD_BYTES:
                        self._write(done)
                        done, began = [], time.monotonic()
            finally:  # a bad file or Ctrl-C costs nothing that is already computed
                self._write(done)

    def _write(self, done):
        if done:
            keys, rows, counts = zip(*done, strict=True)
            self.store.add(sum(keys, []), np.concatenate(rows), sum(counts, []))

    def _announce(self, jobs):
        """A word before jobs are begun, or a refusal."""

    def _rows(self, output, jobs):
        """Rows of the store that a batch makes, and how many of them each utterance has."""
        raise NotImplementedError


def finite_or_named(finite, jobs, complaint="the encoder's states are not finite"):
    """ValueError naming the first utterance of a batch that is False in `finite` (B,)."""
    if not finite.all():
        job = jobs[int((~finite).nonzero()[0])]
        raise ValueError(f"{job.name}: {job.wav}: {complaint}")


class PooledStateCache(StateCache):
    """Time means over real frames of all L+1 states, float32, by utterance.

    Arguments
    ---------
    encoder, folder, **options
        As for :class:`StateCache`.

    Example
    -------
    >>> import tempfile, pandas, soundfile
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

    def __init__(self, encoder, folder, **options):
        shape = (encoder.num_layers + 1, encoder.hidden_size)
        super().__init__(encoder, folder, "pooled", shape, **options)

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

    def _rows(self, output, jobs):
        """EncoderOutput -> (B, L+1, D) float32 array, one row each."""
        pooled = [masked_mean(state.float(), output.lengths) for state in output.states]
        pooled = torch.stack(pooled, dim=1).cpu()  # (B, L+1, D)
        finite_or_named(torch.isfinite(pooled).flatten(1).all(1), jobs)
        return pooled.numpy(), [1] * len(jobs)


def _describe(path, settings):
    """A readable note of what the folder holds; the key in its name is what counts."""
    if not path.is_file():
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)
