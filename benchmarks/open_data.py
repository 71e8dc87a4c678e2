"""Opening a data set's training images: our mapped file beside other ways to keep the same pixels.

    python benchmarks/open_data.py [NAME] [--rounds 5]        NAME is prepared; mnist-mini ships with the package

Every round of every way is a process of its own, with its imports behind it: milliseconds to have the images, private
memory since then (what every further process on the machine costs again), seconds for one epoch of shuffled batches
of 256. Medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from hssl_ray.data.manifest import dataset_info, parquet_directory
from hssl_ray.data.parquet import read_parquet
from hssl_ray.data.store import open_dataset

Pixels = npt.NDArray[np.uint8]
BATCH = 256


def mapped(name: str, folder: Path) -> Pixels:
    return open_dataset(name).train.images.numpy()


def our_parquet(name: str, folder: Path) -> Pixels:
    info = dataset_info(name)
    path = parquet_directory(name) / "train.parquet"
    return read_parquet(path, (info.channels, info.size, info.size), info.train_images).images


def parquet_lists(name: str, folder: Path) -> Pixels:
    column = pq.read_table(folder / "lists.parquet")["image"].combine_chunks()
    pixels: Pixels = column.values.to_numpy()
    return pixels.reshape(len(column), -1)


def npz(name: str, folder: Path) -> Pixels:
    with np.load(folder / "images.npz", allow_pickle=False) as file:
        return np.asarray(file["images"], np.uint8)


def npy_mapped(name: str, folder: Path) -> Pixels:
    images: Pixels = np.load(folder / "images.npy", mmap_mode="c", allow_pickle=False)
    return images


WAYS: dict[str, Callable[[str, Path], Pixels]] = {
    "mapped Arrow file (ours)": mapped,
    "NumPy file, memory-mapped": npy_mapped,
    "Parquet, fixed-size binary (as stored)": our_parquet,
    "Parquet, fixed-size lists": parquet_lists,
    "NumPy .npz": npz,
}


def private_bytes() -> int:
    """Memory of this process that is no page of a file: its heap, and what it wrote to private mappings."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def measure(way: str, name: str, folder: Path) -> dict[str, float]:
    before = private_bytes()
    start = time.perf_counter()
    images = WAYS[way](name, folder)
    opened = time.perf_counter() - start
    order = np.random.default_rng(0).permutation(len(images))
    start = time.perf_counter()
    for first in range(0, len(order), BATCH):
        images[order[first : first + BATCH]]
    return {
        "open_ms": opened * 1e3,
        "private_mb": (private_bytes() - before) / 1e6,
        "epoch_s": time.perf_counter() - start,
    }


def write_others(name: str, folder: Path) -> None:
    images = open_dataset(name).train.images.numpy()
    pixels = images[0].size
    lists = pa.FixedSizeListArray.from_arrays(pa.array(images.ravel()), pixels)
    pq.write_table(pa.table({"image": lists}), folder / "lists.parquet", use_dictionary=False, compression="zstd")
    np.savez_compressed(folder / "images.npz", images=images)
    np.save(folder / "images.npy", images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="mnist-mini")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.child[0], arguments.name, Path(arguments.child[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_others(arguments.name, Path(folder))
        print(f"{arguments.name}: {len(open_dataset(arguments.name).train):,} images, median of {arguments.rounds}")
        print(f"{'':40}{'open ms':>10}{'private MB':>12}{'epoch s':>10}")
        for way in WAYS:
            command = [sys.executable, __file__, arguments.name, "--child", way, folder]
            rounds = [
                json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)  # noqa: S603
                for _ in range(arguments.rounds)
            ]
            median = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
            print(f"{way:40}{median['open_ms']:10.1f}{median['private_mb']:12.1f}{median['epoch_s']:10.3f}")


if __name__ == "__main__":
    main()
