"""The encoders of an emotion run: the one in question and those it is compared with.

========================  ======================================================================
encoder                   what the run is about
``random_init``           same architecture, nothing learned
``teacher``               what the encoder was made from
``extraction``            the teacher's layers at the encoder's depth, not pretrained afterwards
========================  ======================================================================

All are frozen and get the same head, training, folds and seeds. The fourth baseline,
``mfcc_ridge``, has no encoder (:mod:`vesper_lobes.mfcc_ridge`).
"""

import json
import logging
from pathlib import Path

import torch

from vesper_lobes.checkpoints import load_encoder
from vesper_lobes.compression import compress
from vesper_lobes.encoder import Encoder

MAIN = "encoder"
FLOOR = "mfcc_ridge"
BASELINES = (FLOOR, "random_init", "teacher", "extraction")
NEED_TEACHER = ("teacher", "extraction")
RECORD = "pretraining.json"

logger = logging.getLogger(__name__)


def split_baselines(names, teacher):
    """Which baselines can be made, and why the others cannot.

    Arguments
    ---------
    names : list of str
        Of `BASELINES`.
    teacher : str or None

    Returns
    -------
    possible : list of str
    skipped : dict
        Name -> reason.

    Example
    -------
    >>> split_baselines(["mfcc_ridge", "teacher"], None)
    (['mfcc_ridge'], {'teacher': 'no --teacher was given'})
    """
    unknown = sorted(set(names) - set(BASELINES))
    if unknown:
        raise ValueError(f"unknown baselines {unknown}; choose from {list(BASELINES)}")
    skipped = {n: "no --teacher was given" for n in names if n in NEED_TEACHER and not teacher}
    return [name for name in names if name not in skipped], skipped


def make_encoder(name, source, teacher=None, seed=0):
    """One of the run's encoders, frozen.

    Arguments
    ---------
    name : str
        `MAIN` or a baseline with an encoder.
    source, teacher : str
        Folders or hub ids.
    seed : int
        Of the random weights of ``random_init``.

    Returns
    -------
    Encoder
    """
    if name == "teacher":
        return load_encoder(teacher).freeze()
    encoder = load_encoder(source)
    if name == "random_init":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = Encoder(encoder.config)
    elif name == "extraction":
        encoder, plan = compress(load_encoder(teacher), encoder.num_layers, method="extraction")
        logger.info("extraction baseline: %s", plan)
    elif name != MAIN:
        raise ValueError(f"no encoder is called {name!r}")
    return encoder.freeze()


def saw_test_audio(setting, source, corpus_name, speakers):
    """Whether the encoder's pretraining, its teacher's included, heard the test speakers.

    Arguments
    ---------
    setting : bool or None
        What the YAML says; None asks the record ``pretraining.json`` in the encoder's folder.
    source : str
        The encoder's folder.
    corpus_name : str
    speakers : iterable of str

    Returns
    -------
    bool
        Where nothing is known, True with a warning: a row is marked "transductive" rather than
        called clean without evidence.
    """
    if setting is not None:
        return bool(setting)
    path = Path(str(source)) / RECORD
    if not path.is_file():
        logger.warning(
            "nothing tells what %s heard in pretraining (no %s in it): scores are marked "
            "transductive. If it heard none of %s: --ssl_saw_test_audio False",
            *(source, RECORD, corpus_name),
        )
        return True
    record = json.loads(path.read_text(encoding="utf-8"))
    heard = record.get("speakers", {}).get(corpus_name, [])
    unnamed = "" in heard  # clips of this corpus whose speaker was not known
    return unnamed or bool(set(heard) & set(speakers))
