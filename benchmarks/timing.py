"""Timing shared by the benchmarks: candidates in turn, within one process, and ratios per round.

A machine's speed drifts (other processes, clock, temperature), so candidates are never timed one
after the other but in rounds, and a ratio is formed within each round before its median is taken.
"""

import json
import os
import platform
import statistics
import time
from pathlib import Path

import torch

from vesper_lobes.fast_cpu import PackedLinear


def seconds_of(work):
    """Wall seconds of one call of ``work()``."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def spread(values):
    """Median, least and greatest of a list, and the list."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "all": list(values),
    }


def alternate(candidates, repeats=7, warmup=1):
    """Time candidates in turn; every other round runs backwards, so that none is always first.

    Arguments
    ---------
    candidates : dict of str to callable
        Called without arguments. On an accelerator each must wait for it
        (``torch.cuda.synchronize``) before it returns.
    repeats : int
        Timed rounds.
    warmup : int
        Rounds before them.

    Returns
    -------
    dict
        Name -> {"median", "min", "max", "all"} in seconds; ``all`` is in the order of the rounds.

    Example
    -------
    >>> times = alternate({"sum": lambda: sum(range(9)), "max": lambda: max(range(9))}, repeats=3)
    >>> len(times["max"]["all"])
    3
    """
    for _ in range(warmup):
        for work in candidates.values():
            work()
    times = {name: [] for name in candidates}
    for number in range(repeats):
        for name in list(candidates)[:: -1 if number % 2 else 1]:
            times[name].append(seconds_of(candidates[name]))
    return {name: spread(values) for name, values in times.items()}


def ratio_rows(times, reference):
    """How many times faster than a peer, round by round.

    Arguments
    ---------
    times : dict
        From `alternate`.
    reference : str
        The peer's name in it.

    Returns
    -------
    list of dict
        In the order of ``times``: name, seconds {median, min, max}, ratio {median, min, max};
        a ratio above 1 is faster than the peer.

    Example
    -------
    >>> seen = {"peer": spread([2.0, 4.0, 3.0]), "ours": spread([1.0, 1.0, 2.0])}
    >>> rows = ratio_rows(seen, "peer")
    >>> rows[1]["ratio"]
    {'median': 2.0, 'min': 1.5, 'max': 4.0}
    """
    peer = times[reference]["all"]
    rows = []
    for name, measured in times.items():
        ratio = spread([a / b for a, b in zip(peer, measured["all"], strict=True)])
        numbers = {"seconds": measured, "ratio": ratio}
        rows.append({"name": name, **{k: without_list(v) for k, v in numbers.items()}})
    return rows


def without_list(values):
    """`spread` without its list, for tables."""
    return {key: value for key, value in values.items() if key != "all"}


def print_rows(rows):
    """The rows of `ratio_rows` as a table: milliseconds and ratios with least and greatest."""
    width = max(len(row["name"]) for row in rows)
    print(f"{'':<{width}}  {'ms':>9} {'[min, max]':>20}  {'ratio':>6} [min, max]")
    for row in rows:
        low, mid, high = (1000 * row["seconds"][key] for key in ("min", "median", "max"))
        ratio = row["ratio"]
        print(
            f"{row['name']:<{width}}  {mid:9.1f} {f'[{low:.1f}, {high:.1f}]':>20}  "
            f"{ratio['median']:5.2f}x [{ratio['min']:.2f}, {ratio['max']:.2f}]"
        )


def machine():
    """What the figures depend on: processor, cores, threads, versions, accelerator, load (dict)."""
    facts = {
        "processor": cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),  # of the last minute: above the threads, distrust
    }
    if torch.cuda.is_available():
        facts["accelerator"] = torch.cuda.get_device_name()
    return facts


def cpu_model():
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in found.items()}
    if "model name" not in named:
        return platform.machine()
    identity = ", ".join(f"{key} {named[key]}" for key in ("cpu family", "model") if key in named)
    return f"{named['model name']} ({identity})" if identity else named["model name"]


def matrix_product_peak(dtype, size=2048, repeats=7):
    """GFLOP/s of a large matrix product in this process: the peak that a model can hope for.

    In bfloat16 also with weights laid out beforehand, as the fast path has them, if that is faster.

    Arguments
    ---------
    dtype : torch.dtype
    size : int
        Of the square matrices; large enough to be bound by arithmetic.
    repeats : int
        The fastest counts.
    """
    a, b = torch.randn(2, size, size).to(dtype)
    products = [lambda: a @ b]
    if dtype == torch.bfloat16:
        packed = PackedLinear(b)
        products.append(lambda: packed(a))
    fastest = min(
        seconds_of(product) for product in products for _ in range(repeats + 1)
    )  # the first of each warms up
    return 2 * size**3 / fastest / 1e9


def write_json(path, obj):
    """Write whole or not at all: a temporary name in the same folder, then a rename."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(obj, indent=1) + "\n")
    os.replace(temporary, path)
