"""Random numbers that depend on a key alone, never on what was drawn before.

A crop, a mask or a dropout pattern keyed by (seed, epoch, utterance) is the same whatever the batch
size, the row order, the number of workers or processes, and whether the run was interrupted. So a
resumed run needs no stored generator state.
"""

import hashlib

import torch


def keyed_seed(*key):
    """A 63-bit seed made of a key of strings and integers.

    Example
    -------
    >>> keyed_seed(1, 2, "a") == keyed_seed(1, 2, "a")
    True
    >>> keyed_seed(1, 2, "a") == keyed_seed(1, 2, "b")
    False
    """
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def keyed_uniform(*key):
    """One number in [0, 1) for a key.

    Example
    -------
    >>> 0.0 <= keyed_uniform("crop", 0, "utterance") < 1.0
    True
    """
    return keyed_seed(*key) / 2**63


def keyed_generator(*key):
    """A torch.Generator (CPU) started from a key.

    Example
    -------
    >>> a, b = keyed_generator(0, "x"), keyed_generator(0, "x")
    >>> bool((torch.rand(3, generator=a) == torch.rand(3, generator=b)).all())
    True
    """
    return torch.Generator().manual_seed(keyed_seed(*key))
