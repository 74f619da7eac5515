"""What a frozen teacher says of fixed crops, computed once and kept on disk (ours).

The conv front end and the teacher are frozen, so for a crop that is the same in every epoch their
outputs are the same too. A store keeps, for each utterance, the front end's output (T, C) and the
teacher's states M/2 and M (T, D each), as fp16 or int8; every pretraining from this teacher,
whatever its masks, losses, depth or seed, then runs the student alone.

Stored frames are rows of C + 2D numbers: 5 kB a frame at WavLM Large's size in fp16, 190 GB for
LSSED's 206 hours. int8 halves that, with one scale for each utterance and column. A shard is
``<name>.bin`` (blocks of bytes) and ``<name>.json`` (their index and checksums), written last: what
a killed run leaves is whole or never read. Processes of one run share the work and the folder.
"""

import hashlib
import json
import logging
import os
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from vesper_lobes.cache_keys import audio_keys
from vesper_lobes.checkpoints import weights_hash
from vesper_lobes.lengths import SAMPLE_RATE, n_frames

logger = logging.getLogger(__name__)

DTYPES = ("fp16", "int8")
FORMAT = 1
PARTS = ("features", "middle", "last")


class Stored(NamedTuple):
    """A batch out of the store: features (B, T, C), lengths (B,), targets two of (B, T, D)."""

    features: torch.Tensor
    lengths: torch.Tensor
    targets: tuple


class TargetStore:
    """Front-end outputs and teacher states of fixed crops, by utterance.

    Arguments
    ---------
    folder : str or pathlib.Path
        Stores of several teachers, crops and types may share it: each has a subfolder by its key.
    teacher : vesper_lobes.teacher.Teacher
    reader : vesper_lobes.pretrain_data.CropReader
        With ``fixed=True`` and neither speed nor gain drawn.
    dtype : str
        "fp16" (relative error 5e-4) or "int8" (half the size, 1/254 of each column's maximum).
    precision : str
        Of the teacher's pass: "fp32" or "bf16" (autocast).
    shard_rows, shard_seconds : int, float
        A shard is written after so many utterances or so much time; a killed run loses this much.
    progressbar : bool

    Raises
    ------
    ValueError
        Crops that are not fixed, an unknown type.
    """

    def __init__(
        self,
        folder,
        teacher,
        reader,
        dtype="fp16",
        precision="fp32",
        shard_rows=256,
        shard_seconds=60.0,
        progressbar=True,
    ):
        if not reader.fixed or reader.speeds != [1.0] or reader.gain_db:
            raise ValueError("a store of targets needs fixed crops: give --fixed_crops True")
        if dtype not in DTYPES:
            raise ValueError(f"store type {dtype!r} is unknown: choose one of {DTYPES}")
        self.teacher, self.reader, self.dtype = teacher, reader, dtype
        self.half = precision == "bf16"
        self.shard_rows, self.shard_seconds = shard_rows, shard_seconds
        self.progressbar = progressbar
        config = teacher.encoder.config
        self.widths = (config.conv_dim[-1], config.hidden_size, config.hidden_size)
        settings = {
            "format": FORMAT,
            "teacher": weights_hash(teacher.encoder),
            "do_normalize": bool(config.do_normalize),
            "crop_seconds": float(reader.seconds),
            "crop_seed": int(reader.seed),
            "dtype": dtype,
            "precision": "bf16" if self.half else "fp32",
        }
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self.folder = Path(folder) / f"targets-{key[:24]}"
        self.folder.mkdir(parents=True, exist_ok=True)
        _replace(self.folder / "settings.txt", json.dumps(settings, indent=1).encode())
        self.index, self.known, self.maps = {}, set(), {}
        self.keys = {}  # ID -> key
        self.refresh()

    def refresh(self):
        """Take up shards that were finished meanwhile, by this process or others."""
        for path in sorted(self.folder.glob("*.json")):
            if path.stem not in self.known:
                for entry in json.loads(path.read_text(encoding="utf-8")):
                    self.index[entry["key"]] = (path.stem, entry)
                self.known.add(path.stem)

    def bytes_of(self, rows):
        """Bytes that the crops of some manifest rows take, without the index."""
        seconds = rows["duration"].astype(float).clip(upper=self.reader.seconds)
        frames = sum(n_frames(int(s * SAMPLE_RATE)) for s in seconds)
        if self.dtype == "fp16":
            return 2 * frames * sum(self.widths)
        return (frames + 4 * len(rows)) * sum(self.widths)

    def fill(self, rows, device="cpu", rank=0, world_size=1, batch_seconds=40.0):
        """Compute what is missing; prints the size before it writes, and the error of the type.

        Arguments
        ---------
        rows : pandas.DataFrame
            Columns ID, duration, wav (a real path), start, stop.
        device : str or torch.device
        rank, world_size : int
            This process does every `world_size`-th utterance; call `refresh` after a barrier.
        batch_seconds : float
            Padded audio in a batch.

        Returns
        -------
        TargetStore
            Itself.

        Raises
        ------
        ValueError
            Naming the file: audio that cannot be read, states that are not finite or too large for
            fp16. What was computed before stays.
        """
        keys = [
            hashlib.sha256(f"{audio} {name}".encode()).hexdigest()
            for audio, name in zip(audio_keys(rows), rows["ID"], strict=True)
        ]
        self.keys.update(zip(rows["ID"], keys, strict=True))
        missing = np.array([key not in self.index for key in keys], dtype=bool)
        if missing.any():
            logger.info(
                "%s: %d of %d utterances to compute, %.2f GB of %.2f GB in %s",
                *(self.folder, missing.sum(), len(rows), self.bytes_of(rows[missing]) / 1e9),
                *(self.bytes_of(rows) / 1e9, self.dtype),
            )
            todo = rows[missing].assign(key=[k for k in keys if k not in self.index])
            todo = todo.sort_values(["duration", "ID"], ascending=False)[rank::world_size]
            self._compute(todo, device, batch_seconds)
        return self

    def batch(self, names):
        """What is stored of some utterances, padded with zeros.

        Arguments
        ---------
        names : list of str
            IDs that were filled.

        Returns
        -------
        Stored
            float32.

        Raises
        ------
        KeyError
            An ID that was not filled.
        ValueError
            A block whose checksum is wrong: names the shard to delete.
        """
        blocks = [self._read(name) for name in names]
        lengths = torch.tensor([len(block) for block in blocks])
        frames = torch.nn.utils.rnn.pad_sequence(blocks, batch_first=True)  # (B, T, C+2D)
        features, *targets = frames.split(self.widths, dim=-1)
        return Stored(features, lengths, tuple(targets))

    def _read(self, name):
        """(T, C+2D) float32 of one utterance."""
        if name not in self.keys or self.keys[name] not in self.index:
            raise KeyError(f"{name} is not in this store: call fill() with its manifest row first")
        shard, entry = self.index[self.keys[name]]
        if shard not in self.maps:
            self.maps[shard] = np.memmap(self.folder / f"{shard}.bin", dtype=np.uint8, mode="r")
        block = self.maps[shard][entry["start"] : entry["stop"]]
        if zlib.crc32(block) != entry["crc32"]:
            raise ValueError(
                f"{self.folder / shard}.bin: the checksum of {name} is wrong. Delete {shard}.json "
                "and run again: what it held is computed anew."
            )
        return torch.from_numpy(unpack(block, self.dtype, sum(self.widths)))

    def _compute(self, todo, device, batch_seconds):
        """Teacher over crops, longest first; shards are written as they fill up."""
        size = max(1, int(batch_seconds // self.reader.seconds))
        parts = [todo[start : start + size] for start in range(0, len(todo), size)]
        self.teacher.to(device)
        done, began = [], time.monotonic()  # (key, block) of finished utterances
        bar = tqdm(total=len(todo), desc="Targets", unit="utt", disable=not self.progressbar)
        with bar, ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(self._crops, part) for part in parts[:2]]
            try:
                for number, part in enumerate(parts):
                    wavs = waiting.pop(0).result()
                    if number + 2 < len(parts):
                        waiting.append(pool.submit(self._crops, parts[number + 2]))
                    frames = self._frames(wavs, device, part)
                    if number == 0:
                        self._report_error(frames)
                    done += zip(part["key"], (pack(f, self.dtype) for f in frames), strict=True)
                    bar.update(len(part))
                    late = time.monotonic() - began > self.shard_seconds
                    if late or len(done) >= self.shard_rows:
                        self._write(done)
                        done, began = [], time.monotonic()
            finally:  # a bad file or Ctrl-C costs nothing that is already computed
                pool.shutdown(wait=False, cancel_futures=True)
                self._write(done)
        self.refresh()

    def _crops(self, part):
        columns = (part[name] for name in ("ID", "wav", "start", "stop"))
        return [self.reader(*row) for row in zip(*columns, strict=True)]

    @torch.no_grad()
    def _frames(self, wavs, device, part):
        """List of (T, C+2D) float32 arrays, real frames only."""
        batch = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True).to(device)  # (B, S)
        relative = torch.tensor([len(wav) / batch.shape[1] for wav in wavs], device=device)
        kind = torch.device(device).type
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=self.half):
            features, lengths = self.teacher.encoder.cnn(batch, relative)
            states = self.teacher(batch, relative, cnn_output=(features, lengths))
        rows = torch.cat([features.float(), *(s.float() for s in states)], dim=-1).cpu()
        frames = [row[:length].numpy() for row, length in zip(rows, lengths.tolist(), strict=True)]
        limit = 65504 if self.dtype == "fp16" else np.inf
        for name, wav, values in zip(part["ID"], part["wav"], frames, strict=True):
            if not np.abs(values).max() <= limit:  # NaN too
                raise ValueError(
                    f"{wav} ({name}): the teacher's states are not finite or beyond what "
                    f"{self.dtype} holds; --store_dtype int8 has no such limit"
                )
        return frames

    def _report_error(self, frames):
        """Log the relative error of the stored type on a batch, for each part."""
        exact = np.concatenate(frames)
        width = sum(self.widths)
        kept = np.concatenate([unpack(pack(f, self.dtype), self.dtype, width) for f in frames])
        errors, column = [], 0
        for part, width in zip(PARTS, self.widths, strict=True):
            here = slice(column, column + width)
            scale = np.abs(exact[:, here]).max() or 1.0
            errors.append(f"{part} {np.abs(kept - exact)[:, here].max() / scale:.1e}")
            column += width
        logger.info("largest error in %s over largest value: %s", self.dtype, ", ".join(errors))

    def _write(self, done):
        """One shard: bytes first, index last."""
        if not done:
            return
        entries, start = [], 0
        for key, block in done:
            checksum = zlib.crc32(block)
            stop = start + len(block)
            entries.append({"key": key, "start": start, "stop": stop, "crc32": checksum})
            start = stop
        name = hashlib.sha256(" ".join(key for key, _ in done).encode()).hexdigest()[:24]
        _replace(self.folder / f"{name}.bin", b"".join(block for _, block in done))
        _replace(self.folder / f"{name}.json", json.dumps(entries).encode())


def pack(frames, dtype):
    """(T, W) float32 to bytes: fp16 numbers, or W float32 scales and T x W int8.

    Example
    -------
    >>> frames = np.array([[1.0, -254.0], [0.5, 127.0]], dtype=np.float32)
    >>> unpack(pack(frames, "int8"), "int8", 2).tolist()[1][1]
    128.0
    >>> unpack(pack(frames, "fp16"), "fp16", 2).tolist()
    [[1.0, -254.0], [0.5, 127.0]]
    """
    if dtype == "fp16":
        return frames.astype("<f2").tobytes()
    scales = (np.abs(frames).max(0) / 127).astype("<f4")  # (W,)
    numbers = np.rint(frames / np.where(scales > 0, scales, 1)).astype(np.int8)  # (T, W)
    return scales.tobytes() + numbers.tobytes()


def unpack(block, dtype, width):
    """What `pack` made, as (T, W) float32."""
    block = np.frombuffer(block, dtype=np.uint8)
    if dtype == "fp16":
        return block.view("<f2").reshape(-1, width).astype(np.float32)
    scales = block[: 4 * width].copy().view("<f4")
    return block[4 * width :].view(np.int8).reshape(-1, width) * scales


def _replace(path, content):
    """Bytes in place by a temporary name in the same folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
