"""Frames of a frozen encoder, computed once for each utterance and read from disk batch by batch.

For heads that are not affine in the pooled feature (ShiftFormer, SpeechFormer), which need every
frame. All L+1 states are kept where a head learns their weighted sum, the last alone where that is
what it reads. Nothing is loaded as a whole: IEMOCAP's 5,531 utterances take 16.6 MB each at most
with WavLM Large (25 states x 324 frames x 1024 in fp16), some 65 GB in all.
"""

import logging
import shutil

import numpy as np
import torch

from vesper_lobes.feature_cache import StateCache, finite_or_named
from vesper_lobes.lengths import SAMPLE_RATE, n_frames

logger = logging.getLogger(__name__)

DTYPES = {"fp16": torch.float16, "fp32": torch.float32}
KEPT = {"weighted_sum": "all", "last": "last"}  # states kept, by how the head mixes them


class FrameStateCache(StateCache):
    """Frames of all L+1 states, or of the last, by utterance.

    Arguments
    ---------
    encoder, folder
        As for :class:`vesper_lobes.feature_cache.StateCache`.
    mix : str
        How the head mixes the states: "weighted_sum" keeps all of them, "last" the last alone.
    dtype : str
        "fp16", half the size, exact to 2^-11 = 4.9e-4 of each value, or "fp32". A value beyond
        fp16's 65,504 is refused, never clipped.
    **options
        As for :class:`vesper_lobes.feature_cache.StateCache`.

    Raises
    ------
    ValueError
        Unknown mix or dtype; in :meth:`fill` also: not enough room on the disk.

    Example
    -------
    >>> import tempfile, pandas, soundfile
    >>> from vesper_lobes.config import EncoderConfig
    >>> from vesper_lobes.encoder import Encoder
    >>> folder = tempfile.mkdtemp()
    >>> soundfile.write(f"{folder}/a.wav", np.random.default_rng(0).normal(0, 0.1, 8000), 16000)
    >>> rows = pandas.DataFrame({"ID": ["a"], "wav": [f"{folder}/a.wav"], "start": 0, "stop": -1})
    >>> encoder = Encoder(EncoderConfig.mini_large(num_hidden_layers=2)).freeze()
    >>> cache = FrameStateCache(encoder, folder, progressbar=False).fill(rows)
    >>> states, lengths = cache.batch(["a"])
    >>> states.shape, states.dtype, lengths  # (B, L+1, T, D)
    (torch.Size([1, 3, 24, 192]), torch.float16, tensor([24]))
    """

    def __init__(self, encoder, folder, mix="weighted_sum", dtype="fp16", **options):
        if mix not in KEPT or dtype not in DTYPES:
            raise ValueError(f"frames of {mix!r} in {dtype!r}: give {list(KEPT)}, {list(DTYPES)}")
        self.keeps_all = KEPT[mix] == "all"
        self.num_states = encoder.num_layers + 1 if self.keeps_all else 1
        shape = (self.num_states, encoder.hidden_size)
        kind = f"frames {KEPT[mix]} {dtype}"
        self.dtype = DTYPES[dtype]
        numpy_dtype = torch.empty(0, dtype=self.dtype).numpy().dtype
        super().__init__(encoder, folder, kind, shape, numpy_dtype, **options)

    def batch(self, names):
        """Frames of some utterances, read from the disk and padded.

        Arguments
        ---------
        names : list of str

        Returns
        -------
        states : torch.Tensor (B, S, T, D)
            S = L+1 states or 1, in the cache's type, zeros beyond each utterance's end.
        lengths : torch.LongTensor (B,)
            Real frames.
        """
        runs = self.store.runs([self._key(name) for name in names])  # each (T, S, D)
        lengths = [len(run) for run in runs]
        out = np.empty((len(runs), max(lengths), *self.store.shape), dtype=self.store.dtype)
        for row, run in zip(out, runs, strict=True):
            row[: len(run)] = run
            row[len(run) :] = 0
        return torch.from_numpy(out).transpose(1, 2), torch.tensor(lengths)

    def _announce(self, jobs):
        """Says how much will be written, and refuses what the disk has no room for."""
        seconds = sum(job.seconds for job in jobs.values())
        frame = int(np.prod(self.store.shape)) * self.store.dtype.itemsize
        size = n_frames(int(seconds * SAMPLE_RATE)) * frame
        what = f"{len(jobs)} utterances, {seconds / 60:.1f} min, {self.settings.kind}"
        logger.info("%s: %.2f GB of frames go to %s", what, size / 1e9, self.folder)
        free = shutil.disk_usage(self.folder).free
        if size > free:
            raise ValueError(
                f"{what}: {size / 1e9:.1f} GB of frames do not fit into {self.folder} "
                f"({free / 1e9:.1f} GB free). Give another states_folder, or --mix last"
            )

    def _rows(self, output, jobs):
        """EncoderOutput -> (sum of T, S, D) array of all utterances' frames, and their counts."""
        kept = output.states if self.keeps_all else output.states[-1:]
        padded, lengths = torch.stack(kept, dim=2), output.lengths.cpu()  # (B, T, S, D)
        runs = torch.nn.utils.rnn.unpad_sequence(padded, lengths, batch_first=True)
        finite_or_named(_finite(runs), jobs)
        runs = [run.to(self.dtype) for run in runs]
        too_large = "states beyond fp16's 65504: store them with --states_dtype fp32"
        finite_or_named(_finite(runs), jobs, too_large)
        return torch.cat(runs).cpu().numpy(), lengths.tolist()


def _finite(runs):
    """Whether all of each tensor is finite, (len(runs),)."""
    return torch.stack([run.isfinite().all() for run in runs])
