"""Where each data set is published, as which files, under which names of classes."""

from __future__ import annotations

from dataclasses import dataclass

_DIGITS = tuple("0123456789")
_IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


@dataclass(frozen=True)
class Publication:
    """How a data set reaches its users. `classes` is empty where the files themselves name them."""

    origin: str
    address: str
    files: tuple[str, ...]
    classes: tuple[str, ...] = ()

    def how_to(self, name: str) -> str:
        """What to fetch, where to put it, what to run."""
        files = "\n".join(f"    {file}" for file in self.files)
        return (
            f"  fetch from {self.address}\n{files}\n  into a folder DIR of this machine, then run\n"
            f"    hssl-ray data prepare {name} --from DIR"
        )


_MNIST = Publication(
    "LeCun, Cortes and Burges, The MNIST database of handwritten digits",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    _IDX_FILES,
    _DIGITS,
)

PUBLISHED: dict[str, Publication] = {
    "mnist-mini": _MNIST,
    "mnist": _MNIST,
    "fashion-mnist": Publication(
        "Xiao, Rasul and Vollgraf, Fashion-MNIST (Zalando Research)",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        _IDX_FILES,
        (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
    ),
    "cifar10": Publication(
        "Krizhevsky, Learning multiple layers of features from tiny images (CIFAR-10)",
        "https://www.cs.toronto.edu/~kriz/",
        ("cifar-10-binary.tar.gz, unpacked (or cifar-10-python.tar.gz, unpacked)",),
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
    "tiny-imagenet": Publication(
        "Tiny ImageNet, Stanford CS231N, from ILSVRC (Russakovsky et al.)",
        "http://cs231n.stanford.edu/",
        ("tiny-imagenet-200.zip, unpacked",),
    ),
}
