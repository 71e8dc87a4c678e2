"""How a data set reaches its users."""

from __future__ import annotations

from dataclasses import dataclass


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
