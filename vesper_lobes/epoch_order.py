"""The order of an epoch: a function of seed and epoch, for any number of processes and workers.

Every process works out the whole order and takes every n-th utterance of it, so that step by step
n processes hear together what one process with an n times larger batch hears.

Utterances in files are shuffled all over. In tar shards (`data_prep.write_shards`) that would
read at random all over the disk; so the shards are shuffled, and within their concatenation each
utterance moves by at most ``buffer`` places. At any time a run then reads within a few neighbouring
shards. Nothing is held in memory for it, shards may be of any size, and a resumed epoch goes on at
the next utterance.
"""

import logging

import numpy as np
from speechbrain.dataio.sampler import ReproducibleRandomSampler
from torch.utils.data import Sampler, SequentialSampler

from vesper_lobes.pretrain_data import spare_parents_memory
from vesper_lobes.process_group import world_size
from vesper_lobes.tar_member import ADDRESS

logger = logging.getLogger(__name__)

BUFFER = 10_000  # ours: utterances; about 1 GB of flac


class ShardSampler(Sampler):
    """Utterances shard by shard.

    Arguments
    ---------
    dataset : vesper_lobes.pretrain_data.CropDataset
        Of places in tar shards.
    shuffle : bool
        False: as they were written, in every epoch.
    seed : int
    buffer : int
        Places that an utterance moves at most.

    Raises
    ------
    ValueError
        Naming a row that is in no shard.
    """

    def __init__(self, dataset, shuffle, seed, buffer=BUFFER):
        self.shuffle, self.seed, self.buffer, self.epoch = shuffle, int(seed), buffer, 0
        places = [ADDRESS.fullmatch(wav) for wav in dataset.data.wavs]
        if not all(places):
            raise ValueError(f"{dataset.data.wavs[places.index(None)]} is in no shard")
        tars, self.tar_of = np.unique([place[1] for place in places], return_inverse=True)
        self.num_tars = len(tars)
        self.first_byte = np.array([int(place[2]) for place in places])

    def set_epoch(self, epoch):
        """Turn to the order of an epoch."""
        self.epoch = epoch

    def __len__(self):
        return len(self.tar_of)

    def __iter__(self):
        return iter(self.order().tolist())

    def order(self):
        """Numbers of the utterances, (N,) array."""
        if not self.shuffle:
            return np.lexsort((self.first_byte, self.tar_of))
        random = np.random.default_rng([self.seed, self.epoch])
        rank = random.permutation(self.num_tars)[self.tar_of]  # of each utterance's shard
        order = np.lexsort((self.first_byte, rank))
        places = np.arange(len(order)) + random.uniform(0, self.buffer, len(order))
        return order[np.argsort(places, kind="stable")]


def epoch_order(dataset, shuffle, seed):
    """The sampler for a training set.

    Arguments
    ---------
    dataset : vesper_lobes.pretrain_data.CropDataset
    shuffle : bool
    seed : int

    Returns
    -------
    torch.utils.data.Sampler
        Where it shuffles, it has `set_epoch`.
    """
    if ADDRESS.fullmatch(dataset.data.wavs[0]):
        return ShardSampler(dataset, shuffle, seed)
    if shuffle:  # what SpeechBrain takes in a single process
        return ReproducibleRandomSampler(dataset, seed=seed)
    return SequentialSampler(dataset)


def ordered_loader(brain, dataset, options):
    """Loader options with this order in the place of `shuffle`; logs what an epoch leaves out.

    Arguments
    ---------
    brain : speechbrain.Brain
        Turns the sampler to each epoch; in several processes it deals it out among them.
    dataset : vesper_lobes.pretrain_data.CropDataset
    options : dict
        Of the loader, with `shuffle`, `batch_size` and `drop_last`.

    Returns
    -------
    dict
        For `train_loader_kwargs`.
    """
    options = {"worker_init_fn": spare_parents_memory, **options}
    sampler = epoch_order(dataset, options.pop("shuffle", False), brain.hparams.seed)
    brain.train_sampler = options["sampler"] = sampler
    together = world_size() * options["batch_size"]  # utterances of a step
    if options.get("drop_last"):
        logger.info(
            "an epoch has %d steps of %d utterances; %d of %d are left out, others each time",
            *(len(dataset) // together, together, len(dataset) % together, len(dataset)),
        )
    return options
