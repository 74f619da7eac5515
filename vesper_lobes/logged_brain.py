"""What both self-supervised recipes need of a Brain: resumable, keyed, logged epochs.

On top of SpeechBrain's own: a progress bar with every loss and the hours of audio read per hour,
means per epoch that survive an interruption, weight decay on matrices only, clipping over all
parameter groups, and dropout keyed by (seed, epoch, step), which makes a resumed run repeat the
uninterrupted one without a stored generator state.

A step never waits for an accelerator, which so has its next kernels queued before the last ones are
done. Losses stay on the device until the bar is drawn (every two seconds), a checkpoint is saved or
the epoch ends; whether they are finite is looked at then too.
"""

import inspect
import logging
import time

import speechbrain as sb
import torch
from speechbrain.core import INTRA_EPOCH_CKPT_FLAG
from speechbrain.utils.distributed import if_main_process
from torch import nn
from tqdm import tqdm

from vesper_lobes.keyed_random import keyed_seed
from vesper_lobes.lengths import SAMPLE_RATE
from vesper_lobes.process_group import world_size
from vesper_lobes.run_history import History, RunningMeans

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0  # between two looks at losses on a GPU; each one waits for all that is queued


def decay_groups(modules, weight_decay):
    """Optimizer groups: weight decay on weight matrices, none on biases, norms and embeddings.

    Embeddings are the table of relative positions and the mask embedding; the gates' constants and
    the gains of weight normalisation, which are scales too, are spared with them.

    Arguments
    ---------
    modules : torch.nn.Module
    weight_decay : float

    Returns
    -------
    list of dict
        Two groups, trainable parameters only, each parameter once.

    Example
    -------
    >>> groups = decay_groups(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)), 0.01)
    >>> [len(group["params"]) for group in groups]
    [1, 3]
    """
    decayed, spared = [], []
    for module in modules.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                matrix = isinstance(module, (nn.Linear, nn.Conv1d)) and name == "weight"
                matrix = matrix or name == "original1"  # direction of a weight-normed convolution
                (decayed if matrix else spared).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]


class LoggedBrain(sb.Brain):
    """Base of `PretrainBrain` and `MaskedPredictionBrain`.

    A subclass writes compute_forward, and compute_objectives that fills `self.shown` (what the
    progress bar shows) and `self.logged` (what history.json keeps), dicts of numbers.

    YAML keys used: seed, output_folder, epoch_counter, scheduler (WarmupCosine), schedule_per
    (`epoch` or `step`), weight_decay, train_logger, optionally tensorboard_logger.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if isinstance(self.optimizer_step_limit, str):  # SpeechBrain's parser leaves it a string
            self.optimizer_step_limit = int(self.optimizer_step_limit)
        self.means, self.valid_means = RunningMeans(), RunningMeans()
        self.history = History(f"{self.hparams.output_folder}/history.json")
        self.shown, self.logged, self.epoch, self.bar = {}, {}, 0, None
        self.step_utterances = None  # of all processes; set by `fit`
        self.look_seconds = LOOK_SECONDS if self.on_gpu else 0.0
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("means", self.means)

    def fit(self, epoch_counter, train_set, valid_set=None, progressbar=None, **loader_kwargs):
        """As Brain.fit, with a bar of our own in place of SpeechBrain's."""
        self.reader = train_set.reader
        train_loader = self.make_dataloader(
            train_set, sb.Stage.TRAIN, **loader_kwargs.pop("train_loader_kwargs", {})
        )
        self.step_utterances = world_size() * train_loader.batch_size
        self.has_valid = valid_set is not None
        if self.has_valid:
            valid_set = self.make_dataloader(
                valid_set,
                sb.Stage.VALID,
                ckpt_prefix=None,
                **loader_kwargs.pop("valid_loader_kwargs", {}),
            )
        if not len(train_loader):
            raise ValueError(
                f"{len(train_set)} utterances do not fill one batch. Lower --batch_size, or give "
                "more speech."
            )
        self.batches = {sb.Stage.TRAIN: len(train_loader)}
        self.batches[sb.Stage.VALID] = len(valid_set) if self.has_valid else 0
        show = not self.noprogressbar if progressbar is None else progressbar
        self.show_bar = show and if_main_process()
        super().fit(
            epoch_counter, train_loader, valid_set if self.has_valid else None, progressbar=False
        )

    def on_fit_start(self):
        """As Brain's; ValueError where an epoch cannot go on at its next utterance.

        A checkpoint within an epoch says how many steps were done, so a step must be the same
        number of utterances again, in however many processes. Between epochs it may change.
        """
        checkpoint = self.checkpointer.find_checkpoint() if self.checkpointer else None
        if checkpoint is not None and INTRA_EPOCH_CKPT_FLAG in checkpoint.meta:
            before, processes = checkpoint.meta.get("step_utterances"), world_size()
            if before not in (None, self.step_utterances):
                cure = f"Give --batch_size {before // processes}"
                if before % processes:
                    cure = f"Give --batch_size 1 and {before} processes, or a pair of this product"
                raise ValueError(
                    f"{checkpoint.path} stands within an epoch whose steps have {before} "
                    f"utterances; now {processes} process(es) take {self.step_utterances} a step, "
                    f"and some would be heard twice or not at all. {cure}."
                )
        super().on_fit_start()

    def make_dataloader(self, dataset, stage, **options):
        """As Brain's; batches for a GPU are made in memory that it can fetch from by itself."""
        options.setdefault("pin_memory", self.on_gpu)
        return super().make_dataloader(dataset, stage, **options)

    @property
    def on_gpu(self):
        """Whether the device is a CUDA one."""
        return torch.device(self.device).type == "cuda"

    def on_device(self, tensor):
        """A CPU tensor on the device; the copy waits for nothing that is queued there."""
        tensor = tensor.pin_memory() if self.on_gpu else tensor
        return tensor.to(self.device, non_blocking=True)

    def init_optimizers(self):
        """AdamW or another `opt_class` over the groups of `decay_groups`.

        As one fused kernel where the class has one: on a CPU AdamW is three to four times as fast.
        """
        groups = decay_groups(self.modules, self.hparams.weight_decay)
        has_fused = "fused" in inspect.signature(self.opt_class).parameters
        self.optimizer = self.opt_class(groups, **({"fused": True} if has_fused else {}))
        self.optimizers_dict = {"opt_class": self.optimizer}
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("optimizer", self.optimizer)

    def on_stage_start(self, stage, epoch=None):
        """Turn crops, masks and learning rate to the epoch; a resumed epoch keeps its means."""
        self.epoch = epoch
        if stage == sb.Stage.TRAIN:
            self.reader.set_epoch(epoch)
            if self.hparams.schedule_per == "epoch":
                self.set_lr(self.hparams.scheduler.lr_at(epoch))
            if self.step == 0:
                self.means.reset()
        else:
            self.valid_means.reset()
        self.bar = tqdm(
            total=self.batches[stage],
            initial=self.step,
            desc=f"epoch {epoch} {stage.name.lower()}",
            dynamic_ncols=True,
            disable=not self.show_bar,
        )
        self.last_time = self.last_look = time.time()

    def set_lr(self, lr):
        """Give every parameter group the rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def fit_batch(self, batch):
        """As Brain's, without its three waits for the loss. Returns the loss, on the device."""
        should_step = self.step % self.grad_accumulation_factor == 0
        self.heard = audio_seconds(batch)  # before the lengths leave for the device
        batch = batch.to(self.device, non_blocking=True)
        self.on_fit_batch_start(batch, should_step)
        with self.no_sync(not should_step):
            with self.training_ctx:
                outputs = self.compute_forward(batch, sb.Stage.TRAIN)
                loss = self.compute_objectives(outputs, batch, sb.Stage.TRAIN)
            self.means.count(nonfinite=~loss.detach().isfinite())
            self.scaler.scale(loss / self.grad_accumulation_factor).backward()
        if should_step:
            self.optimizers_step()
        self.on_fit_batch_end(batch, outputs, loss, should_step)
        return loss.detach()

    def update_average(self, loss, avg_loss):
        """Brain's own average is not kept: it would wait for every loss, and `means` has it."""
        return avg_loss

    def on_fit_batch_start(self, batch, should_step):
        """Key dropout by (seed, epoch, step, rank); per-step schedules set their rate."""
        rank = getattr(self, "rank", 0)
        torch.manual_seed(keyed_seed("dropout", self.hparams.seed, self.epoch, self.step, rank))
        if self.hparams.schedule_per == "step" and should_step:
            self.set_lr(self.hparams.scheduler.lr_at(self.optimizer_step + 1))

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Add the batch to the means and the bar."""
        now, last = time.time(), self.last_time
        self.means.count(steps=1, seconds=now - last, audio_seconds=self.heard)
        self.last_time = now
        self.means.add({**self.logged, **self.shown}, weight=len(batch.id))
        self.show(self.means)

    def evaluate_batch(self, batch, stage):
        """As Brain's, counted in the means. Returns the loss, on the device."""
        batch = batch.to(self.device, non_blocking=True)
        with self.evaluation_ctx:
            loss = self.compute_objectives(self.compute_forward(batch, stage), batch, stage)
        self.valid_means.add({**self.logged, **self.shown}, weight=len(batch.id))
        self.show(self.valid_means)
        return loss.detach()

    def show(self, means):
        """Advance the bar; at times look at the losses (a CPU's wait nowhere: at every step)."""
        if time.time() - self.last_look >= (self.look_seconds):
            self.look(means)
            self.write_on_bar(means)
            self.last_look = time.time()
        self.bar.update()

    def look(self, means):
        """Wait for the losses so far; ValueError if too many of the epoch's are not finite."""
        bad = means.settle().totals.get("nonfinite", 0)
        if bad > self.nonfinite_count:
            self.nonfinite_count = int(bad)
            logger.warning("epoch %d: %d losses were not finite so far", self.epoch, bad)
        if bad > self.nonfinite_patience:
            raise ValueError(
                f"epoch {self.epoch}: {bad:.0f} losses were not finite, --nonfinite_patience is "
                f"{self.nonfinite_patience}. Lower --lr, or find the cause by wrapping fit() in "
                "torch.autograd.detect_anomaly()."
            )

    def write_on_bar(self, means):
        """Running means of `shown`, hours of audio per hour of training."""
        if not self.show_bar:
            return
        current = means.means()
        words = {name: f"{current[name]:.4f}" for name in self.shown if name in current}
        if means is self.means:
            words["audio_h/h"] = f"{hours_per_hour(means) * world_size():.1f}"
        self.bar.set_postfix(words, refresh=False)

    def optimizers_step(self):
        """As Brain's, with the norm taken over all groups (Brain clips the first one only)."""
        self.scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
        if not self.scaler.is_enabled() and self.skip_nonfinite_grads:
            self.check_gradients()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # fused kernels do not tell of their edits, by which the encoder knows its weights changed
        torch.autograd.graph.increment_version(parameters)
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer_step += 1

    def _should_save_intra_epoch_ckpt(self, last_ckpt_time, steps_since_ckpt):
        """Between optimizer steps only: gradients that wait for accumulation are not saved.

        With several processes the first one's clock decides; to ask it, all wait, so not at every
        step.
        """
        if self.step % self.grad_accumulation_factor:
            return False
        by_the_clock = self.ckpt_interval_steps <= 0
        if by_the_clock and world_size() > 1 and self.step % (16 * self.grad_accumulation_factor):
            return False
        return super()._should_save_intra_epoch_ckpt(last_ckpt_time, steps_since_ckpt)

    def _save_intra_epoch_ckpt(self):
        """As Brain's, with a list of keys of its own (see `on_stage_end`)."""
        self.look(self.means)  # before weights that are not finite replace a good checkpoint
        self.means.gather(self.device)
        self.checkpointer.save_and_keep_only(
            end_of_epoch=False,
            num_to_keep=1,
            importance_keys=[],
            ckpt_predicate=lambda checkpoint: INTRA_EPOCH_CKPT_FLAG in checkpoint.meta,
            meta={INTRA_EPOCH_CKPT_FLAG: True, "step_utterances": self.step_utterances},
            verbosity=logging.DEBUG,
        )

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Close the bar; after the last stage of an epoch, log it and save a checkpoint."""
        self.bar.close()
        if stage == sb.Stage.TRAIN:
            self.look(self.means)
        last_stage = sb.Stage.VALID if self.has_valid else sb.Stage.TRAIN
        if stage != last_stage or not self.means.totals.get("steps"):
            return  # the second: nothing was left to do when the run was taken up
        row = self.epoch_row(epoch)
        if if_main_process():
            self.history.append(row)
        self.log_row(row)
        if self.checkpointer is not None:
            self.step, self.avg_train_loss = 0, 0.0  # the epoch is over: a resume starts the next
            self.checkpointer.save_and_keep_only(
                meta={"epoch": int(epoch), "loss": float(row["train"]["loss"])},
                num_to_keep=1,
                importance_keys=[],  # the default is a shared list that grows with every call
            )

    def epoch_row(self, epoch):
        """The row of history.json: plain floats."""
        means = self.means.all_ranks(self.device)
        row = {"epoch": int(epoch), "optimizer_steps": int(self.optimizer_step)}
        row["lr"] = float(self.optimizer.param_groups[0]["lr"])
        row["seconds"] = means.totals["seconds"]
        row["audio_hours"] = means.totals["audio_seconds"] / 3600
        row["hours_per_hour"] = hours_per_hour(means)
        row["train"] = means.means()
        row["valid"] = self.valid_means.means()
        return row

    def log_row(self, row):
        """Write the row to train_log.txt and TensorBoard."""
        meta = {name: row[name] for name in ("epoch", "lr", "hours_per_hour")}
        stats = {"train_stats": row["train"], "valid_stats": row["valid"] or None}
        self.hparams.train_logger.log_stats(meta, **stats)
        board = getattr(self.hparams, "tensorboard_logger", None)
        if board is not None:  # its own counters start at 0 again in a resumed run
            for name in ("train", "valid"):
                board.global_step[name] = dict.fromkeys(row[name], row["epoch"] - 1)
            board.global_step["meta"] = row["epoch"] - 1
            board.log_stats(meta, **stats)


def audio_seconds(batch):
    """Seconds of real audio in a batch with `sig`."""
    wavs, lens = batch.sig
    return float(lens.sum()) * wavs.shape[1] / SAMPLE_RATE


def hours_per_hour(means):
    """Hours of audio trained on per hour of wall time."""
    return means.totals["audio_seconds"] / max(means.totals["seconds"], 1e-9)
