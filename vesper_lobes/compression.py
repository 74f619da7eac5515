"""Make a large encoder small: N layers from M, by copying or averaging (the paper, III-D; Table V).

=============  ====================================================  ========================
method         layer i of the student (1-based)                      Vesper-4 of 24 layers
=============  ====================================================  ========================
extraction     a copy of layer 1 + floor(M/N)(i-1)                   1, 7, 13, 19
averaging      the mean of layers 1+floor(M/N)(i-1)..floor(M/N)i     1-6, 7-12, 13-18, 19-24
random         random weights                                        -
distillation   that of a student which imitated the teacher          -
=============  ====================================================  ========================

Whatever the method copies, the front end, the projection, the positional convolution and the
mask embedding come from the teacher, and so does the relative-position bucket table, which only
the teacher's layer 1 holds. ``random`` keeps the teacher's front end alone, because it stays
frozen (``random_cnn=True`` draws that too). ``distillation`` takes over the whole student, which
``vesper_lobes.distillation`` trained; the paper names this method without details, so it is ours.
"""

import dataclasses
import logging
from dataclasses import dataclass

import torch

from vesper_lobes.encoder import Encoder

logger = logging.getLogger(__name__)

METHODS = ("extraction", "averaging", "random", "distillation")
DROPOUTS = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout")
MAKE_DISTILLED = (
    "Make one with this teacher (cd recipes/LSSED/distill && python train.py "
    "hparams/vesper_mini.yaml, or vesper4.yaml, vesper12.yaml, --num_layers N --teacher TEACHER "
    "--data_folder /path/to/speech) and give its export as --distilled FOLDER."
)
_TABLE = "attention.rel_attn_embed.weight"


@dataclass(frozen=True)
class CompressionPlan:
    """Which teacher layers (1-based) make each student layer; empty for new ones."""

    method: str
    teacher_layers: int
    sources: tuple

    def __str__(self):
        if self.method == "distillation":
            return f"distillation (ours): {len(self.sources)} layers that imitated the teacher's"
        if not any(self.sources):
            return f"{self.method}: {len(self.sources)} new layers, none of {self.teacher_layers}"
        parts = ", ".join("+".join(map(str, layers)) for layers in self.sources)
        return f"{self.method}: {len(self.sources)} of {self.teacher_layers} layers <- {parts}"


def plan_layers(teacher_layers, num_layers, method="extraction", layers=None, ranges=None):
    """Choose the source layers.

    Arguments
    ---------
    teacher_layers, num_layers : int
        M and N.
    method : str
        ``extraction``, ``averaging``, ``random`` or ``distillation``.
    layers : list of int, optional
        For extraction: N layers of the teacher, 1-based, instead of the rule.
    ranges : list of (int, int), optional
        For averaging: N ranges, 1-based and inclusive, instead of the rule.

    Returns
    -------
    CompressionPlan

    Raises
    ------
    ValueError
        For an unknown method, a wrong number of layers, or a layer the teacher has not.

    Example
    -------
    >>> print(plan_layers(24, 4))
    extraction: 4 of 24 layers <- 1, 7, 13, 19
    >>> print(plan_layers(24, 12, "averaging", ranges=None).sources[1])
    (3, 4)
    """
    if method not in METHODS:
        raise ValueError(f"compression method {method!r}: one of {', '.join(METHODS)}")
    if layers is not None and method != "extraction":
        raise ValueError("a list of layers goes with method 'extraction'")
    if ranges is not None and method != "averaging":
        raise ValueError("a list of ranges goes with method 'averaging'")
    step = teacher_layers // num_layers
    new = method in ("random", "distillation")
    if step == 0 and not new and layers is None and ranges is None:
        raise ValueError(f"cannot make {num_layers} layers of {teacher_layers}")
    if new:
        sources = [()] * num_layers
    elif method == "extraction":
        sources = [(n,) for n in layers or (1 + step * i for i in range(num_layers))]
    else:
        ranges = ranges or [(1 + step * i, step * (i + 1)) for i in range(num_layers)]
        sources = [tuple(range(first, last + 1)) for first, last in ranges]
    if len(sources) != num_layers:
        raise ValueError(f"{len(sources)} source layers given for {num_layers}")
    for group in sources:
        if not new and not group:
            raise ValueError(f"an empty range among {ranges}")
        if any(not 1 <= n <= teacher_layers for n in group):
            raise ValueError(f"layers {group}: the teacher has 1 to {teacher_layers}")
    return CompressionPlan(method, teacher_layers, tuple(sources))


@torch.no_grad()
def compress(
    teacher,
    num_layers,
    method="extraction",
    layers=None,
    ranges=None,
    random_cnn=False,
    dropout=None,
    distilled=None,
):
    """A student encoder from a teacher.

    Arguments
    ---------
    teacher : Encoder
        M layers; left as it is.
    num_layers : int
        N, even.
    method, layers, ranges
        As for ``plan_layers``.
    random_cnn : bool
        With ``random``: draw the front end too (it will be frozen as drawn).
    dropout : float, optional
        The student's dropout on hidden, attention, activation and projection outputs; None: the
        teacher's configuration.
    distilled : Encoder, optional
        For distillation, and for nothing else: the distilled student; left as it is.

    Returns
    -------
    (Encoder, CompressionPlan)
        The student, with a trainable front end (``freeze_cnn`` is the trainer's to call); the
        exact source layers, also logged.

    Raises
    ------
    ValueError
        As ``plan_layers``; or for a distilled student that is missing, not asked for, or not of
        this depth and this teacher.
    """
    plan = plan_layers(teacher.num_layers, num_layers, method, layers, ranges)
    _check_distilled(distilled, teacher, num_layers, method)
    changes = {"num_hidden_layers": num_layers}
    if dropout is not None:
        changes.update(dict.fromkeys(DROPOUTS, dropout))
    student = Encoder(dataclasses.replace(teacher.config, **changes), teacher.mask_after_pos_conv)
    source = teacher.state_dict()
    if method == "distillation":
        copied = distilled.state_dict()
    elif method == "random":
        kept = () if random_cnn else ("feature_extractor.",)
        copied = {name: t for name, t in source.items() if name.startswith(kept)} if kept else {}
    else:
        copied = {n: t for n, t in source.items() if not n.startswith("encoder.layers.")}
        for index, group in enumerate(plan.sources):
            copied.update(_mean_layer(source, group, index))
        table = f"encoder.layers.0.{_TABLE}"
        if table in source:
            copied[table] = source[table]
    result = student.load_state_dict(copied, strict=method != "random")
    if result.unexpected_keys:
        raise ValueError(f"the teacher's {result.unexpected_keys} have no place in the student")
    logger.info("Compression by %s", plan)
    return student.train(teacher.training), plan


def _mean_layer(source, group, index):
    """Student layer ``index`` (from 0) as the mean of the teacher layers ``group`` (from 1)."""
    prefix = f"encoder.layers.{group[0] - 1}."
    names = [n.removeprefix(prefix) for n in source if n.startswith(prefix) and _TABLE not in n]
    mean = {}
    for name in names:
        tensors = [source[f"encoder.layers.{n - 1}.{name}"] for n in group]
        mean[f"encoder.layers.{index}.{name}"] = torch.stack(tensors).mean(0)
    return mean


def _check_distilled(distilled, teacher, num_layers, method):
    """A distilled student is there if and only if asked for, and is of this depth and teacher."""
    if method != "distillation":
        if distilled is not None:
            raise ValueError(f"a distilled student goes with method 'distillation', not {method!r}")
        return
    if distilled is None:
        raise ValueError(f"method 'distillation' wants a distilled student. {MAKE_DISTILLED}")
    if distilled.num_layers != num_layers:
        raise ValueError(
            f"the distilled student has {distilled.num_layers} layers, and num_layers is "
            f"{num_layers}. {MAKE_DISTILLED}"
        )
    free = dict.fromkeys((*DROPOUTS, "layerdrop"), 0.0) | {"num_hidden_layers": num_layers}
    ours, theirs = (dataclasses.replace(e.config, **free) for e in (distilled, teacher))
    own, other = (e.feature_extractor.state_dict() for e in (distilled, teacher))
    if ours != theirs or not all(torch.equal(own[name], other[name]) for name in other):
        raise ValueError(
            "the distilled student's configuration or conv front end is not this teacher's: it "
            f"imitated another. {MAKE_DISTILLED}"
        )
