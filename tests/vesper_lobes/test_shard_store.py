"""Shards are whole or absent, whatever is left in the folder."""

import json

import numpy as np
import pytest

from vesper_lobes.shard_store import ShardStore


def test_found_by_key_across_shards_and_openings(tmp_path):
    arrays = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    store = ShardStore(tmp_path, (2, 3))
    store.add(["a", "b"], arrays[:2])
    store.add(["c", "d", "e"], arrays[2:])
    again = ShardStore(tmp_path, (2, 3))
    assert len(again) == 5 and "d" in again
    assert np.array_equal(again.take(["e", "a", "a", "c"]), arrays[[4, 0, 0, 2]])
    with pytest.raises(KeyError):
        again.take(["z"])


def test_sees_what_another_process_finished(tmp_path):
    reader, writer = ShardStore(tmp_path, (2,)), ShardStore(tmp_path, (2,))
    writer.add(["a"], np.ones((1, 2)))
    assert "a" not in reader
    reader.refresh()
    assert "a" in reader


def spoiled(folder, what):
    """A folder with one good shard (key a) and one (key b) left in some half-written way."""
    store = ShardStore(folder, (2,))
    store.add(["a"], np.ones((1, 2)))
    good = set(folder.iterdir())
    store.add(["b"], np.ones((1, 2)))
    array, index = (
        next(p for p in folder.iterdir() if p not in good and p.suffix == end)
        for end in (".npy", ".json")
    )
    if what == "no index":
        index.unlink()
    elif what == "no array":
        array.unlink()
    elif what == "cut array":
        array.write_bytes(array.read_bytes()[:-4])
    elif what == "cut index":
        index.write_bytes(index.read_bytes()[:-3])
    elif what == "other count":
        index.write_text(json.dumps({"keys": ["b", "c"]}))
    elif what == "temporary":
        index.unlink()
        array.rename(folder / f".{array.name}.123.tmp")


@pytest.mark.parametrize(
    "what", ["no index", "no array", "cut array", "cut index", "other count", "temporary"]
)
def test_half_written_shards_are_never_used(tmp_path, what):
    spoiled(tmp_path, what)
    store = ShardStore(tmp_path, (2,))
    assert "a" in store and "b" not in store and len(store) == 1
    store.add(["b"], np.full((1, 2), 7))
    assert np.array_equal(ShardStore(tmp_path, (2,)).take(["b"]), [[7, 7]])


def test_wrong_shape_is_refused_and_leaves_nothing(tmp_path):
    store = ShardStore(tmp_path, (2,))
    with pytest.raises(ValueError, match="shape"):
        store.add(["a"], np.ones((1, 3)))
    with pytest.raises(ValueError, match="shape"):
        store.add(["a", "b"], np.ones((1, 2)))
    assert not list(tmp_path.iterdir())


def test_keys_may_have_many_rows_each(tmp_path):
    arrays = np.arange(12, dtype=np.float16).reshape(6, 2)
    ShardStore(tmp_path, (2,), np.float16).add(["a", "b", "c"], arrays, counts=[3, 1, 2])
    store = ShardStore(tmp_path, (2,), np.float16)
    runs = store.runs(["c", "a"])
    assert [run.tolist() for run in runs] == [arrays[4:].tolist(), arrays[:3].tolist()]
    assert runs[0].dtype == np.float16
    with pytest.raises(ValueError, match="rows"):
        store.add(["d"], arrays, counts=[5])
    assert len(ShardStore(tmp_path, (2,), np.float32)) == 0  # another type: not its shards
    with pytest.raises(KeyError):
        store.runs(["z"])


def test_shards_written_before_rows_were_counted_are_read(tmp_path):
    ShardStore(tmp_path, (2,)).add(["a", "b"], np.ones((2, 2)))
    (index,) = tmp_path.glob("*.json")
    index.write_text(json.dumps({"keys": ["a", "b"]}))
    assert np.array_equal(ShardStore(tmp_path, (2,)).take(["b"]), [[1, 1]])
