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
    torchvision_class: str = ""
    """The class of torchvision.datasets that downloads it."""
    archives: tuple[str, ...] = ()
    """Archives that may lie in the folder instead of the files; the first one there is read."""
    folders: tuple[str, ...] = ()
    """Top folders of the archives."""

    def how_to(self, name: str) -> str:
        """What to fetch, where to put it, what to run."""
        lines = [f"  fetch from {self.address}", *(f"    {file}" for file in self.files)]
        lines += ["  into a folder DIR of this machine, then run", f"    hssl-ray data prepare {name} --from DIR"]
        if self.torchvision_class:
            lines += ["  or, where there is a network, let torchvision fetch it:", f"    hssl-ray data prepare {name}"]
        return "\n".join(lines)


_MNIST = Publication(
    "LeCun, Cortes and Burges, The MNIST database of handwritten digits",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    _IDX_FILES,
    _DIGITS,
    "MNIST",
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
        "FashionMNIST",
    ),
    "cifar10": Publication(
        "Krizhevsky, Learning multiple layers of features from tiny images (CIFAR-10)",
        "https://www.cs.toronto.edu/~kriz/",
        ("cifar-10-binary.tar.gz (or cifar-10-python.tar.gz)",),
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        "CIFAR10",
        archives=("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"),
        folders=("cifar-10-batches-bin", "cifar-10-batches-py"),
    ),
    "tiny-imagenet": Publication(
        "Tiny ImageNet, Stanford CS231N, from ILSVRC (Russakovsky et al.)",
        "http://cs231n.stanford.edu/",
        ("tiny-imagenet-200.zip",),
        archives=("tiny-imagenet-200.zip",),
        folders=("tiny-imagenet-200",),
    ),
}
