"""Learning rate per epoch: linear warm-up, then cosine to a minimum (Table I).

SpeechBrain has no such scheduler; this one is called and saved like its own.
"""

import logging
import math

import torch
from speechbrain.utils import checkpoints

logger = logging.getLogger(__name__)


@checkpoints.register_checkpoint_hooks
class WarmupCosine:
    """Linear warm-up over whole epochs, then a cosine that reaches ``min_lr`` in the last epoch.

    Epochs count from 1. With ``W`` warm-up epochs of ``E``, epoch ``e`` trains at
    ``lr * e / W`` while ``e <= W``, and afterwards at
    ``min_lr + (lr - min_lr) * (1 + cos(pi * (e - s) / (E - s))) / 2``, where ``s = max(W, 1)``:
    epoch ``W`` (epoch 1 without warm-up) has exactly ``lr``, epoch ``E`` exactly ``min_lr``. Past
    ``E`` the rate stays at ``min_lr``. This placing of the ends is ours: the paper gives only the
    numbers of epochs and the two rates.

    Pretraining (100, 5, 5e-4, 5e-6): epoch 1 1e-4, epoch 5 5e-4, epoch 6 4.99865e-4, epoch 100
    5e-6. Fine-tuning (50, 0, 7e-4, 7e-6): epoch 1 7e-4, epoch 50 7e-6.

    The rate depends on the epoch alone, so a resumed run needs no state. Set it **before** an epoch
    trains: ``_, lr = scheduler(epoch - 1)`` gives this epoch's. Called with ``epoch`` after one, as
    SpeechBrain's recipes do, the optimizer must have been built with ``scheduler.lr_at(1)``, or
    the first epoch skips the warm-up.

    Arguments
    ---------
    lr, min_lr : float
        Highest and last rate.
    epochs : int
        Of the whole run, warm-up included.
    warmup_epochs : int

    Example
    -------
    >>> scheduler = WarmupCosine(lr=5e-4, min_lr=5e-6, epochs=100, warmup_epochs=5)
    >>> scheduler(0)  # before epoch 1
    (0.0001, 0.0001)
    >>> scheduler(4)  # between epochs 4 and 5
    (0.0004, 0.0005)
    >>> scheduler.lr_at(100)
    5e-06
    """

    def __init__(self, lr, min_lr, epochs, warmup_epochs=0):
        if not 0 <= min_lr <= lr:
            raise ValueError(f"rates must hold 0 <= min_lr <= lr, not {min_lr} and {lr}")
        if not 0 <= warmup_epochs <= epochs or epochs < 1:
            raise ValueError(f"{warmup_epochs} warm-up epochs do not fit into {epochs} epochs")
        self.lr = float(lr)
        self.min_lr = float(min_lr)
        self.epochs = int(epochs)
        self.warmup_epochs = int(warmup_epochs)
        self.current_epoch = 0

    def lr_at(self, epoch):
        """Rate at which epoch ``epoch`` (from 1) trains, a plain float."""
        epoch = max(epoch, 1)
        if epoch <= self.warmup_epochs:
            return self.lr * epoch / self.warmup_epochs
        start = max(self.warmup_epochs, 1)
        done = min((epoch - start) / max(self.epochs - start, 1), 1.0)
        share = (1 + math.cos(math.pi * done)) / 2
        return self.lr * share + self.min_lr * (1 - share)

    def __call__(self, epoch):
        """Rates of epoch ``epoch`` and of the next; ``epoch=0`` is the time before training."""
        self.current_epoch = int(epoch)
        return self.lr_at(epoch), self.lr_at(epoch + 1)

    @checkpoints.mark_as_saver
    def save(self, path):
        """Save the settings and the epoch last asked for, plain Python only."""
        torch.save(dict(vars(self)), path)

    @checkpoints.mark_as_loader
    def load(self, path, end_of_epoch=False, device=None):
        """Take up the epoch; settings stay those of the YAML, and a change of them is logged."""
        del end_of_epoch, device
        saved = torch.load(path, weights_only=True)
        self.current_epoch = saved.pop("current_epoch")
        changed = {name: value for name, value in saved.items() if getattr(self, name) != value}
        if changed:
            logger.warning("Learning-rate settings differ from the checkpoint's: was %s", changed)
