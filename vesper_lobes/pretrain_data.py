"""Speech for pretraining: manifest rows to a SpeechBrain dataset of crops.

A crop is keyed by (seed, epoch, ID), so that neither batch size, workers, processes nor an
interruption change what an epoch holds. Only the crop is decoded, not the file around it.
"""

import bisect
import gc
import multiprocessing
from collections.abc import Mapping, Sequence

import numpy as np
import soundfile
from speechbrain.dataio.dataset import DynamicItemDataset
from torchaudio.functional import resample

from vesper_lobes.audio import read_audio
from vesper_lobes.keyed_random import keyed_uniform
from vesper_lobes.lengths import FIELD, SAMPLE_RATE
from vesper_lobes.tar_member import tar_member

# Resampling by small ratios only (Ko et al., 2015: .9, 1, 1.1): others need long filters.
SPEEDS = {0.8: (10, 8), 0.9: (10, 9), 1.0: (1, 1), 1.1: (10, 11), 1.2: (10, 12)}


class CropReader:
    """Reads one crop of an utterance.

    Arguments
    ---------
    seconds : float
        Length of a crop; shorter utterances are taken whole (batches pad them).
    seed : int
        Part of the key of every draw.
    fixed : bool
        True: the same crop in every epoch, keyed by (seed, ID), as stores of targets need.
    speeds : list of float
        Speed perturbation, one drawn per crop (pitch and tempo change together); of `SPEEDS`.
    gain_db : float
        Gain drawn in [-gain_db, gain_db], per crop.

    Example
    -------
    >>> import tempfile, torch
    >>> path = tempfile.mkdtemp() + "/a.wav"
    >>> soundfile.write(path, torch.randn(32000).clamp(-1, 1).numpy(), 16000)
    >>> CropReader(seconds=1.0, seed=0)("a", path).shape
    torch.Size([16000])
    """

    def __init__(self, seconds, seed, fixed=False, speeds=(1.0,), gain_db=0.0):
        unknown = [speed for speed in speeds if speed not in SPEEDS]
        if unknown:
            raise ValueError(f"speeds {unknown} are not offered; choose from {list(SPEEDS)}.")
        self.seconds, self.seed, self.fixed = seconds, seed, fixed
        self.speeds, self.gain_db = list(speeds), gain_db
        self._epoch = multiprocessing.Value("q", 0)  # seen by running loader workers too

    def set_epoch(self, epoch):
        """Turn to the crops of an epoch (nothing happens if crops are fixed)."""
        self._epoch.value = 0 if self.fixed else epoch

    def __call__(self, name, wav, start=0, stop=-1):
        """The (S,) crop of one manifest row, 16 kHz mono, S <= seconds x 16,000.

        Raises
        ------
        ValueError
            If the file cannot be read or holds less than 400 samples (one frame); with its name.
        """
        key = (self.seed, self._epoch.value, name)
        speed = self.speeds[int(keyed_uniform("speed", *key) * len(self.speeds))]
        keep = round(self.seconds * SAMPLE_RATE)  # samples of the crop, 16 kHz
        crop = read_audio(wav, *self._bounds(key, wav, int(start), int(stop), speed))
        if speed != 1.0:
            crop = resample(crop, SPEEDS[speed][1], SPEEDS[speed][0])
        if crop.shape[0] < FIELD:
            raise ValueError(
                f"{wav} ({name}): {crop.shape[0]} samples at 16 kHz, one frame needs {FIELD}"
            )
        gain = self.gain_db * (2 * keyed_uniform("gain", *key) - 1)
        return crop[:keep] * 10 ** (gain / 20)

    def _bounds(self, key, wav, start, stop, speed):
        """First sample and end of the part to read, at the file's own rate."""
        try:
            info = soundfile.info(tar_member(wav) or wav)
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise ValueError(f"{wav} ({key[-1]}): cannot be read as audio: {error}") from error
        stop = info.frames if stop == -1 else stop
        wanted = round(self.seconds * speed * info.samplerate)
        if stop - start > wanted:
            start += int(keyed_uniform("crop", *key) * (stop - start - wanted + 1))
            stop = start + wanted
        return start, stop


class PackedStrings(Sequence):
    """Many texts in two arrays.

    A list of strings is copied bit by bit into every worker of a loader, since a look at a string
    writes to its reference count; an array is not.

    Example
    -------
    >>> names = PackedStrings(["a", "", "Ä"])
    >>> list(names), names[-1], "a" in names
    (['a', '', 'Ä'], 'Ä', True)
    """

    def __init__(self, strings):
        encoded = [string.encode() for string in strings]
        self._ends = np.cumsum([0] + [len(text) for text in encoded])
        self._bytes = np.frombuffer(b"".join(encoded), dtype=np.uint8)

    def __len__(self):
        return len(self._ends) - 1

    def __getitem__(self, index):
        index = range(len(self))[index]  # IndexError where there is none
        if isinstance(index, range):  # of a slice
            return [self[number] for number in index]
        return self._bytes[self._ends[index] : self._ends[index + 1]].tobytes().decode()


class CropRows(Mapping):
    """Of manifest rows what reading takes (wav, start, stop), by ID or by number, in arrays.

    Arguments
    ---------
    rows : pandas.DataFrame
        Sorted by ID, as manifests are.
    """

    def __init__(self, rows):
        self.names, self.wavs = PackedStrings(rows["ID"]), PackedStrings(rows["wav"])
        self.starts, self.stops = (rows[name].to_numpy(np.int64) for name in ("start", "stop"))

    def __len__(self):
        return len(self.names)

    def __iter__(self):
        return iter(self.names)

    def __getitem__(self, name):
        number = bisect.bisect_left(self.names, name)
        if number == len(self) or self.names[number] != name:
            raise KeyError(name)
        return self.row(number)

    def row(self, number):
        """The row of a number: dict of wav, start, stop."""
        start, stop = int(self.starts[number]), int(self.stops[number])
        return {"wav": self.wavs[number], "start": start, "stop": stop}


class CropDataset(DynamicItemDataset):
    """SpeechBrain's dataset over `CropRows`: items `id` and `sig`, 80 to 150 bytes an utterance.

    Arguments
    ---------
    rows : pandas.DataFrame
        At least one.
    reader : CropReader
        Stays reachable as `.reader`, for `set_epoch`.
    """

    def __init__(self, rows, reader):
        super().__init__(CropRows(rows.sort_values("ID")))
        self.data_ids = self.data.names  # in the place of a list
        self.add_dynamic_item(reader, takes=["id", "wav", "start", "stop"], provides="sig")
        self.set_output_keys(["id", "sig"])
        self.reader = reader

    def __getitem__(self, number):
        row = self.data.row(number)
        return self.pipeline.compute_outputs({"id": self.data_ids[number], **row})


def crop_dataset(rows, reader):
    """Manifest rows as a SpeechBrain dataset of `id` and `sig`.

    Arguments
    ---------
    rows : pandas.DataFrame
        As `data_prep.manifest.read_manifest` returns them, with real paths (or places in tar
        shards) in `wav`.
    reader : CropReader

    Returns
    -------
    CropDataset or None
        None without rows (SpeechBrain knows no empty dataset).
    """
    return CropDataset(rows, reader) if len(rows) else None


def spare_parents_memory(worker):
    """A loader's `worker_init_fn`: garbage collection leaves alone what the parent had.

    To look through an object is to write to it, and a worker copies what it writes to.
    """
    gc.freeze()


def split_rows(rows, valid_share, seed=0):
    """Hold out a share of utterances by a hash of their ID.

    The same utterances are held out whatever else is in the manifest.

    Arguments
    ---------
    rows : pandas.DataFrame
        With a column ID.
    valid_share : float
        In [0, 1); 0 holds nothing out.
    seed : int
        Part of the hash.

    Returns
    -------
    tuple of pandas.DataFrame
        Training rows and held-out rows; with a share above 0 neither is empty.
    """
    draws = rows["ID"].map(lambda name: keyed_uniform("valid", seed, name))
    held = draws < valid_share
    if valid_share > 0 and len(rows) > 1:  # tiny sets: the extreme draws decide
        held = held | (draws == draws.min())
        held = held & (draws != draws.max())
    return rows[~held], rows[held]


def drop_short(rows, seconds=FIELD / SAMPLE_RATE, margin=0.005):
    """Rows long enough for one frame (plus a margin for resampling), and the IDs of the others."""
    short = rows["duration"] < seconds + margin
    return rows[~short], list(rows["ID"][short])
