"""What a run leaves for reports: weighted means within an epoch, one JSON row per epoch."""

import json
import os

import torch
from speechbrain.utils import checkpoints

from vesper_lobes.process_group import world_size


@checkpoints.register_checkpoint_hooks
class RunningMeans:
    """Weighted means of named numbers, kept in checkpoints so that a resumed epoch counts whole.

    Tensors are kept where they are until something is asked for: a training step that only adds
    never waits for its accelerator, and then all that waits comes over in one transfer.

    A checkpoint holds what all processes counted, if each called `gather` just before; when it is
    loaded, each of them, however many they are now, takes an equal part.

    Example
    -------
    >>> means = RunningMeans()
    >>> means.add({"loss": 1.0}, weight=1)
    >>> means.add({"loss": 4.0}, weight=2)
    >>> means.means()
    {'loss': 3.0}
    """

    def __init__(self):
        self.reset()

    def reset(self):
        """Forget everything."""
        self.sums, self.weights, self.totals = {}, {}, {}
        self.waiting = []  # (values by name, their weight, or None for totals)
        self.gathered = None

    def add(self, values, weight=1.0):
        """Add numbers, or tensors of one, to the means; NaN (a share of nothing) is passed over."""
        self.waiting.append((values, float(weight)))

    def count(self, **amounts):
        """Add to plain totals: numbers (seconds, steps) at once, tensors of one when settled."""
        tensors = {name: a for name, a in amounts.items() if isinstance(a, torch.Tensor)}
        for name in amounts.keys() - tensors.keys():
            self.totals[name] = self.totals.get(name, 0.0) + float(amounts[name])
        if tensors:
            self.waiting.append((tensors, None))

    def settle(self):
        """Take up what waits; the only place that waits for an accelerator. Returns self."""
        waiting, self.waiting = self.waiting, []
        numbers = iter(as_floats([v for values, _ in waiting for v in values.values()]))
        for values, weight in waiting:
            for name, value in zip(values, numbers, strict=False):  # numbers go on in the next
                if weight is None:
                    self.totals[name] = self.totals.get(name, 0.0) + value
                else:  # a name without numbers too: `all_ranks` wants the same names of all
                    known = value == value
                    self.sums[name] = self.sums.get(name, 0.0) + (weight * value if known else 0.0)
                    self.weights[name] = self.weights.get(name, 0.0) + (weight if known else 0.0)
        return self

    def means(self):
        """The means so far, as a dict of floats."""
        self.settle()
        return {name: self.sums[name] / weight for name, weight in self.weights.items() if weight}

    def all_ranks(self, device):
        """The same summed over all processes (wall seconds averaged), on every rank."""
        self.settle()
        if world_size() == 1:
            return self
        merged, names, totals = RunningMeans(), sorted(self.sums), sorted(self.totals)
        numbers = [self.sums[n] for n in names] + [self.weights[n] for n in names]
        numbers += [self.totals[n] for n in totals]
        numbers = torch.tensor(numbers, dtype=torch.float64, device=device)  # counts exceed 2**24
        torch.distributed.all_reduce(numbers)
        numbers, size = numbers.tolist(), len(names)
        merged.sums = dict(zip(names, numbers[:size], strict=True))
        merged.weights = dict(zip(names, numbers[size : 2 * size], strict=True))
        merged.totals = dict(zip(totals, numbers[2 * size :], strict=True))
        if "seconds" in merged.totals:
            merged.totals["seconds"] /= world_size()
        return merged

    def gather(self, device):
        """Before a checkpoint, on every process: what is saved next is of all of them."""
        self.gathered = self.all_ranks(device)

    @checkpoints.mark_as_saver
    def save(self, path):
        """Write the sums as JSON."""
        whole, self.gathered = (self.gathered or self).settle(), None
        with open(path, "w", encoding="utf-8") as file:
            json.dump([whole.sums, whole.weights, whole.totals], file)

    @checkpoints.mark_as_loader
    def load(self, path, end_of_epoch=False):
        """Take the sums up again; after a whole epoch there is nothing to take up."""
        self.reset()
        if not end_of_epoch:
            with open(path, encoding="utf-8") as file:
                self.sums, self.weights, self.totals = json.load(file)
            for numbers in (self.sums, self.weights, self.totals):
                for name in numbers.keys() - {"seconds"}:
                    numbers[name] /= world_size()


def as_floats(values):
    """Numbers and tensors of one as floats; tensors of a device in one transfer, as float32.

    Example
    -------
    >>> as_floats([1, torch.tensor(0.5), torch.tensor([3])])
    [1.0, 0.5, 3.0]
    """
    floats, places = list(values), {}
    for place, value in enumerate(values):
        if isinstance(value, torch.Tensor):
            places.setdefault(value.device, []).append(place)
        else:
            floats[place] = float(value)
    for where in places.values():
        together = torch.stack([values[place].detach().float().reshape(()) for place in where])
        for place, number in zip(where, together.tolist(), strict=True):
            floats[place] = number
    return floats


class History:
    """A JSON list with one row per epoch, rewritten atomically.

    A row replaces an older one of the same or a later epoch (an interrupted run repeats epochs).

    Example
    -------
    >>> import tempfile
    >>> history = History(os.path.join(tempfile.mkdtemp(), "history.json"))
    >>> for epoch in (1, 2, 2):
    ...     history.append({"epoch": epoch})
    >>> [row["epoch"] for row in history.rows()]
    [1, 2]
    """

    def __init__(self, path):
        self.path = path

    def rows(self):
        """All rows written so far."""
        if not os.path.exists(self.path):
            return []
        with open(self.path, encoding="utf-8") as file:
            return json.load(file)

    def append(self, row):
        """Add the row of an epoch (`row["epoch"]`)."""
        rows = [old for old in self.rows() if old["epoch"] < row["epoch"]] + [row]
        temporary = f"{self.path}.{os.getpid()}.tmp"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)
        os.replace(temporary, self.path)
