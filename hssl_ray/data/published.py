"""Where each data set is published, as which files, under which names of classes."""

from __future__ import annotations

from hssl_ray.data.catalog import ADDED
from hssl_ray.data.publication import Publication

_DIGITS = tuple("0123456789")
_IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


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
PUBLISHED |= {name: added.publication for name, added in ADDED.items()}
