#!/usr/bin/env python3
"""Pooled states of a frozen encoder for a whole corpus, by one process or by many.

    python recipes/extract.py --encoder EXPORT --manifest M.csv --data_folder DIR --save_folder OUT
    torchrun --nproc_per_node=8 recipes/extract.py --encoder EXPORT --shards SHARDS \
        --save_folder OUT --precision bf16

What is kept of an utterance: the means over time of all N+1 states, (N+1, D) float32, in a
`vesper_lobes.feature_cache.PooledStateCache`, which fine-tuning recipes and your own code open:

    cache = PooledStateCache(load_encoder(EXPORT).freeze(), OUT, precision="bf16").fill(rows)
    cache.states(["first ID", "second ID"])  # (2, N+1, D)

Every process sorts the corpus by length and takes each n-th utterance, so all get the same lengths
and batches of hardly any padding. Processes never wait for each other, on one machine or several;
they share OUT alone. The same command goes on after an interruption, with any number of processes.
"""

import argparse
import os
import sys
import time

import torch

from data_prep.speech_sources import read_speech
from vesper_lobes.checkpoints import load_encoder
from vesper_lobes.feature_cache import PooledStateCache


def share_of(rows, rank, world_size):
    """The rows that one process encodes, longest first.

    Arguments
    ---------
    rows : pandas.DataFrame
        With columns duration and ID.
    rank, world_size : int

    Example
    -------
    >>> import pandas as pd
    >>> rows = pd.DataFrame({"ID": list("abcd"), "duration": [1.0, 4.0, 2.0, 3.0]})
    >>> [list(share_of(rows, rank, 2)["ID"]) for rank in (0, 1)]
    [['b', 'c'], ['d', 'a']]
    """
    return rows.sort_values(["duration", "ID"], ascending=False)[rank::world_size]


def extract(encoder, rows, save_folder, rank=0, world_size=1, **options):
    """Fill a cache with one process's share of some utterances.

    Arguments
    ---------
    encoder : str
        Folder, ``.pt`` file or hub id.
    rows : pandas.DataFrame
        Manifest rows with real paths.
    save_folder : str or Path
    rank, world_size : int
    **options
        Of `PooledStateCache`.

    Returns
    -------
    PooledStateCache
        Holding the share.
    """
    cache = PooledStateCache(load_encoder(encoder).freeze(), save_folder, **options)
    return cache.fill(share_of(rows, rank, world_size))


def main(argv=None):
    """The command."""
    rank, world_size, local = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    device = f"cuda:{local}" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", required=True, help="folder, .pt file or hub id")
    parser.add_argument("--manifest", default="", help="manifest(s), with commas between")
    parser.add_argument("--data_folder", default="", help="what stands for $data_root")
    parser.add_argument("--shards", default="", help="folder(s) of data_prep.write_shards instead")
    parser.add_argument("--save_folder", required=True)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--crop_seconds", type=float, help="longer ones are cut; default: whole")
    parser.add_argument("--batch_seconds", type=float, help="padded audio in a batch")
    parser.add_argument("--device", default=device)
    options = vars(parser.parse_args(argv))
    sources = [options.pop(name) for name in ("data_folder", "manifest", "shards")]
    if not sources[2] and not all(sources[:2]):
        parser.error("give --manifest and --data_folder, or --shards")
    try:
        rows = read_speech(None, *sources)
        began = time.monotonic()
        cache = extract(
            **options, rows=rows, rank=rank, world_size=world_size, progressbar=rank == 0
        )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"process {rank} of {world_size}: its {len(cache)} of {len(rows)} utterances are in "
        f"{cache.folder}, {time.monotonic() - began:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
