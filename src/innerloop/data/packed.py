"""The data sets of the papers as their authors, and others, pass them on: the one table of names.

What reads them (`innerloop.data.known`) and what tells them by their look
(`innerloop.data.other_forms`) take names from here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """How an author packs a data set.

    Attributes:
        name: of the file.
        folder: what it unpacks to.
        md5: its checksum, as the author publishes it.
    """

    name: str
    folder: str
    md5: str


CIFAR_100 = (
    Archive("cifar-100-python.tar.gz", "cifar-100-python", "eb9058c3a382ffc7106e4002c42a8d85"),
    Archive("cifar-100-binary.tar.gz", "cifar-100-binary", "03b5dce01913d631647c71ecec9e9cb8"),
)
CUB = Archive("CUB_200_2011.tgz", "CUB_200_2011", "97eceeb196236b17998738112f37df78")
CHECKSUMS = {each.name: each.md5 for each in (*CIFAR_100, CUB)}

# What CIFAR-100's two archives hold.
CIFAR_PYTHON = ("train", "test", "meta")
CIFAR_BINARY = ("train.bin", "test.bin", "fine_label_names.txt", "coarse_label_names.txt")

# Endings of what is read as it is packed, and of what others pass on divided already.
PACKED = (".tar.gz", ".tgz", ".tar", ".zip")
PICKLES = (".pkl", ".pickle")
DIVIDED = (*PICKLES, ".npz")
