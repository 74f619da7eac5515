"""Learning rate per step: linear warm-up, then cosine, both counted in epochs and their parts.

For heads whose authors changed the rate at every step (ShiftFormer). Where the paper's Table I
holds, the rate changes once an epoch: :class:`vesper_lobes.scheduler.WarmupCosine`.
"""

import math


class StepWarmupCosine:
    """From ``first_lr`` straight to ``lr``, then by a half cosine to ``min_lr``.

    The rate depends on how much of the run is done, in epochs: the number of steps in one differs
    from fold to fold and need not be known here. So a resumed run needs no state.

    Arguments
    ---------
    lr, min_lr, first_lr : float
        Highest, last and first rate.
    epochs : int
        Of the whole run, warm-up included.
    warmup_epochs : int

    Example
    -------
    >>> schedule = StepWarmupCosine(5e-4, min_lr=5e-6, first_lr=5e-7, epochs=100, warmup_epochs=5)
    >>> [round(schedule.lr_after(epochs), 10) for epochs in (0, 2.5, 5, 52.5, 100)]
    [5e-07, 0.00025025, 0.0005, 0.0002525, 5e-06]
    """

    def __init__(self, lr, min_lr, first_lr=0.0, epochs=100, warmup_epochs=0):
        if not 0 <= min_lr <= lr or not 0 <= first_lr <= lr:
            raise ValueError(f"no rate may exceed lr={lr}, but min {min_lr}, first {first_lr}")
        if not 0 <= warmup_epochs <= epochs or epochs < 1:
            raise ValueError(f"{warmup_epochs} warm-up epochs do not fit into {epochs} epochs")
        self.lr, self.min_lr, self.first_lr = float(lr), float(min_lr), float(first_lr)
        self.epochs, self.warmup_epochs = int(epochs), int(warmup_epochs)

    def lr_after(self, done):
        """Rate of the step that begins when so many epochs, a float from 0, are done."""
        if done < self.warmup_epochs:
            return self.first_lr + (self.lr - self.first_lr) * done / self.warmup_epochs
        share = (done - self.warmup_epochs) / max(self.epochs - self.warmup_epochs, 1)
        cosine = (1 + math.cos(math.pi * min(share, 1.0))) / 2
        return self.lr * cosine + self.min_lr * (1 - cosine)
