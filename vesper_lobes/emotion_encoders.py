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

import logging

import torch

from vesper_lobes.checkpoints import load_encoder
from vesper_lobes.compression import compress
from vesper_lobes.encoder import Encoder
from vesper_lobes.pretrain_record import RECORD, read_record

MAIN = "encoder"
FLOOR = "mfcc_ridge"
BASELINES = (FLOOR, "random_init", "teacher", "extraction")
NEED_TEACHER = ("teacher", "extraction")
PUBLIC = ("microsoft/wavlm-", "facebook/hubert-")  # their papers list what they heard

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
        called clean without evidence. WavLM and HuBERT by their makers' hub ids heard audiobooks,
        podcasts and parliaments, none of the emotional corpora.
    """
    if setting is not None:
        return bool(setting)
    if str(source).startswith(PUBLIC):
        return False
    record = read_record(str(source))
    if not record:
        logger.warning(
            "nothing tells what %s heard in pretraining (no %s in it): scores are marked "
            "transductive. If it heard none of %s: --ssl_saw_test_audio False",
            *(source, RECORD, corpus_name),
        )
        return True
    heard = record["speakers"]
    logger.info("heard in pretraining: %s", ", ".join(sorted(heard)))
    names = [names for corpus, names in heard.items() if same_corpus(corpus, corpus_name)]
    known = set().union(*names)
    return "" in known or bool(known & set(speakers))  # "": clips whose speaker was not known


def same_corpus(one, other):
    """Whether two names may mean one corpus: a folder of EmoDB is often called emodb4.

    Example
    -------
    >>> same_corpus("EmoDB", "emodb_4"), same_corpus("CREMA-D", "cremad"), same_corpus("A", "B")
    (True, True, False)
    """
    one, other = ("".join(filter(str.isalnum, name.casefold())) for name in (one, other))
    return one.startswith(other) or other.startswith(one)
