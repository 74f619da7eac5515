"""Run the pretraining recipe, under torchrun too, and note what each step heard and lost.

python step_losses.py OUT.json hparams/vesper_mini.yaml --key value ...

OUT.json: one row a step: IDs of all processes' utterances, sorted, and the mean of their losses.
With STOP_AFTER=n in the environment the processes leave after n steps, as if interrupted.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from vesper_lobes.process_group import leave_together

RECIPE = Path(__file__).resolve().parents[3] / "recipes" / "LSSED" / "pretrain"


def noting(brain_class, steps):
    """The class, appending a row to `steps` after every training step."""

    class Noting(brain_class):
        def on_fit_batch_start(self, batch, should_step):
            if len(steps) == int(os.environ.get("STOP_AFTER", -1)):
                leave_together()
                sys.exit()
            super().on_fit_batch_start(batch, should_step)

        def on_fit_batch_end(self, batch, outputs, loss, should_step):
            losses, names = loss.detach().clone(), [list(batch.id)]
            if dist.is_initialized():
                dist.all_reduce(losses)
                losses /= dist.get_world_size()
                names = [None] * dist.get_world_size()
                dist.all_gather_object(names, list(batch.id))
            steps.append([sorted(sum(names, [])), float(losses)])
            super().on_fit_batch_end(batch, outputs, loss, should_step)

    return Noting


def main(out, *arguments):
    """Run the recipe and write the rows."""
    os.chdir(RECIPE)
    spec = importlib.util.spec_from_file_location("pretrain_recipe", RECIPE / "train.py")
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    steps = []
    recipe.VesperBrain = noting(recipe.VesperBrain, steps)
    try:
        recipe.main(list(arguments))
    finally:
        if int(os.environ.get("RANK", 0)) == 0:
            Path(out).write_text(json.dumps(steps))
    assert not dist.is_initialized()  # processes part together: one that just ends may abort


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
