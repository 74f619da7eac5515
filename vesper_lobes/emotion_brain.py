"""The Brain that trains an emotion head on the states of a frozen encoder.

The encoder is not here: it is frozen, so each utterance passes through it once (see
:mod:`vesper_lobes.feature_cache` and, for heads that want frames,
:mod:`vesper_lobes.frame_cache`) and this Brain sees tensors only. What it trains is the mix of
the encoder's states (``modules.layer_mix``) and the head (``modules.head``). All recipes under
``recipes/<Corpus>/emotion`` share it; their ``train.py`` subclasses it in a few lines.
"""

import functools
import inspect
import logging
from typing import NamedTuple

import speechbrain as sb
import torch
from speechbrain.nnet.schedulers import update_learning_rate

from vesper_lobes.metrics import scores


class StatesBatch(NamedTuple):
    """Cached states of some utterances.

    Attributes
    ----------
    states : torch.Tensor
        (B, N+1, D) time means of all states, or (B, N+1, T, D) frames.
    targets : torch.Tensor
        (B,) class numbers.
    lengths : torch.Tensor or None
        (B,) real frames; None for pooled states.
    """

    states: torch.Tensor
    targets: torch.Tensor
    lengths: torch.Tensor | None = None

    def to(self, device):
        """The same batch on `device`."""
        return StatesBatch(*(None if item is None else item.to(device) for item in self))


class PooledStates(torch.utils.data.Dataset):
    """Pooled states and targets of some rows of a cache; a batch is one indexing operation.

    Arguments
    ---------
    states : numpy.ndarray or torch.Tensor
        (N, L+1, D), all utterances of the corpus; a memmap stays on disk.
    targets : torch.Tensor
        (N,) class numbers.
    rows : list of int
        The rows that belong to this set (train, dev or test of a fold).

    Example
    -------
    >>> states, targets = torch.randn(5, 3, 4), torch.tensor([0, 1, 0, 1, 1])
    >>> subset = PooledStates(states, targets, rows=[4, 0])
    >>> subset.__getitems__([0, 1]).targets
    tensor([1, 0])
    """

    def __init__(self, states, targets, rows):
        self.states, self.targets = states, targets
        self.rows = torch.as_tensor(rows, dtype=torch.long)

    def __len__(self):
        return len(self.rows)

    def __getitems__(self, indices):
        rows = self.rows[torch.as_tensor(indices)]
        states = torch.as_tensor(
            self.states[rows if torch.is_tensor(self.states) else rows.numpy()]
        )
        return StatesBatch(states, self.targets[rows])  # (B, L+1, D), (B,)


class FrameStates(torch.utils.data.Dataset):
    """Frames and targets of some rows of a cache, read from the disk when a batch is asked for.

    Arguments
    ---------
    cache : vesper_lobes.frame_cache.FrameStateCache
        Filled with the corpus's manifest.
    targets : torch.Tensor
        (N,) class numbers, in the order of the manifest.
    rows : list of int
        The rows that belong to this set (train, dev or test of a fold).
    """

    def __init__(self, cache, targets, rows):
        self.cache, self.names = cache, list(cache.keys)
        self.targets, self.rows = targets, torch.as_tensor(rows, dtype=torch.long)

    def __len__(self):
        return len(self.rows)

    def __getitems__(self, indices):
        rows = self.rows[torch.as_tensor(indices)]
        states, lengths = self.cache.batch([self.names[row] for row in rows])
        return StatesBatch(states, self.targets[rows], lengths)  # (B, S, T, D), (B,), (B,)


DATASETS = {"pooled": PooledStates, "frames": FrameStates}  # by the YAML's key `features`


def collate(batch):
    """The batch as `__getitems__` made it: nothing is left to stack."""
    return batch


def selection_score(values, metric):
    """The figure that picks the epoch, as a plain float (a checkpoint's meta must be plain).

    Arguments
    ---------
    values : dict
        Scores by name, as :func:`vesper_lobes.metrics.scores` gives them.
    metric : str
        One name or a sum of names: ``WA`` (protocol B), ``WF1`` (MELD), ``WA+UA`` (protocol A, as
        the published code does).

    Example
    -------
    >>> selection_score({"WA": 0.5, "UA": 0.25, "WF1": 0.4}, "WA+UA")
    0.75
    """
    names = [name.strip() for name in metric.split("+")]
    unknown = [name for name in names if name not in values]
    if unknown:
        raise ValueError(f"unknown selection metric {unknown}; known: {sorted(values)}")
    return float(sum(float(values[name]) for name in names))


class EmotionBrain(sb.Brain):
    """Trains `layer_mix` and `head` on cached states; the epoch is picked on the dev set.

    Needs in hparams: `num_classes`, `protocol`, `selection_metrics` (by protocol), `lr_annealing`
    (WarmupCosine, set once an epoch, or StepWarmupCosine, set at every step), `train_logger`. The
    checkpointer holds one checkpoint, of the epoch with the
    best dev score so far (of equal scores, that with the lower dev loss), which `evaluate` loads.
    After `evaluate`, `probabilities` (n, C) are those of the test set in its own order.

    Attributes
    ----------
    best : dict
        epoch, score and loss on dev of the epoch picked.
    history : list of dict
        One entry an epoch: epoch, lr, train_loss, dev_loss and the dev scores.
    """

    def on_fit_start(self):
        """Starts with an empty history."""
        super().on_fit_start()
        self.history, self.best = [], None

    def init_optimizers(self):
        """As Brain's; on a CPU one fused kernel where the class has one and the YAML is silent."""
        chosen = getattr(self.opt_class, "keywords", {}).keys()
        chosen &= {"fused", "foreach", "differentiable"}
        has_fused = "fused" in inspect.signature(self.opt_class).parameters
        if has_fused and not chosen and torch.device(self.device).type == "cpu":
            self.opt_class = functools.partial(self.opt_class, fused=True)
        super().init_optimizers()

    def make_dataloader(self, dataset, stage, **options):
        """As Brain's; keeps the number of training steps in an epoch."""
        loader = super().make_dataloader(dataset, stage, **options)
        if stage == sb.Stage.TRAIN:
            self.steps_per_epoch = len(loader)
        return loader

    def compute_forward(self, batch, stage):
        """Logits (B, C) of a :class:`StatesBatch`."""
        batch = batch.to(self.device)
        mixed = self.modules.layer_mix(batch.states.float())  # (B, L+1, ..., D) -> (B, ..., D)
        return self.modules.head(mixed, batch.lengths)

    def compute_objectives(self, predictions, batch, stage):
        """Cross-entropy; keeps the logits of dev and test for the scores."""
        targets = batch.targets.to(self.device)
        if stage != sb.Stage.TRAIN:
            self.logits.append(predictions.detach().float().cpu())
            self.targets.append(batch.targets.cpu())
        return torch.nn.functional.cross_entropy(predictions, targets)

    def on_stage_start(self, stage, epoch=None):
        """Forgets the last stage's logits; before an epoch trains, sets its learning rate."""
        self.logits, self.targets = [], []
        if stage == sb.Stage.TRAIN:
            self.epochs_done = epoch - 1
            if not hasattr(self.hparams.lr_annealing, "lr_after"):
                _, self.lr = self.hparams.lr_annealing(epoch - 1)  # (last, this epoch's)
                update_learning_rate(self.optimizer, self.lr)

    def on_fit_batch_start(self, batch, should_step):
        """Sets the learning rate of a schedule that changes at every step."""
        if hasattr(self.hparams.lr_annealing, "lr_after"):
            done = self.epochs_done + (self.step - 1) / self.steps_per_epoch
            self.lr = self.hparams.lr_annealing.lr_after(done)
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr

    def optimizers_step(self):
        """As Brain's, but the norm is clipped over all groups (Brain clips the first one only)."""
        groups = self.optimizer.param_groups
        if len(groups) > 1:
            parameters = [parameter for group in groups for parameter in group["params"]]
            limit = self.max_grad_norm * self.scaler.get_scale()  # gradients are still scaled
            torch.nn.utils.clip_grad_norm_(parameters, limit)
        super().optimizers_step()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Scores the stage; after dev, logs and keeps the best epoch."""
        if stage == sb.Stage.TRAIN:
            self.train_loss = float(stage_loss)
            return
        logits, targets = torch.cat(self.logits), torch.cat(self.targets)
        self.probabilities = logits.softmax(-1)  # (n, C)
        values = scores(targets, logits.argmax(-1), self.hparams.num_classes)
        values = {name: float(value) for name, value in values.items()}
        loss = float(torch.nn.functional.cross_entropy(logits, targets))
        if stage == sb.Stage.VALID:
            self._end_epoch(epoch, values, loss)
        else:
            self._log({"epoch picked": self.best["epoch"]}, test={"loss": loss, **values})

    def _end_epoch(self, epoch, values, loss):
        """Logs an epoch and saves it if it is the best on dev so far."""
        meta = {"epoch": int(epoch), "lr": float(self.lr)}
        self.history.append({**meta, "train_loss": self.train_loss, "dev_loss": loss, **values})
        self._log(meta, train={"loss": self.train_loss}, valid={"loss": loss, **values})
        metric = self.hparams.selection_metrics[self.hparams.protocol]
        score = selection_score(values, metric)
        best = self.best
        if best is None or (score, -loss) > (best["score"], -best["loss"]):
            self.best = {"epoch": int(epoch), "score": score, "loss": loss}
            # one folder, written over: SpeechBrain's save_and_keep_only reads every checkpoint's
            # meta once more at every call (its default list of keys grows), quadratic in epochs
            self.checkpointer.save_checkpoint(dict(self.best), name="best", verbosity=logging.DEBUG)

    def _log(self, meta, **sets):
        """One line of the log file; scores as percentages, since it prints two digits."""
        stats = {
            f"{name}_stats": {k: v if k == "loss" else 100 * v for k, v in values.items()}
            for name, values in sets.items()
        }
        self.hparams.train_logger.log_stats(meta, **stats, verbose=False)
