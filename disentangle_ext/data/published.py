"""The published files: where they are, and how to know that one is whole."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FILES", "Source"]


@dataclass(frozen=True)
class Source:
    """A published file."""

    file: str
    """its name, under which it is kept"""
    mirrors: tuple[str, ...]
    """where it is; the first is tried first. Empty where only a person can fetch it"""
    checksum: str | None = None
    """"md5:..." or "sha256:...", None where none is published"""
    witnesses: int = 0
    """how many public projects state the checksum; what one alone states, nobody has confirmed"""
    page: str = ""
    """where a person finds it, if there is no mirror"""


def _at(folders: tuple[str, ...], file: str, checksum: str, witnesses: int) -> Source:
    return Source(file, tuple(folder + file for folder in folders), checksum, witnesses)


_DSPRITES = (
    "https://github.com/google-deepmind/dsprites-dataset/raw/master/",
    "https://raw.githubusercontent.com/google-deepmind/dsprites-dataset/master/",
)
_SPRITES = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64"
_SHAPES = ("https://storage.googleapis.com/3d-shapes/",)
_CARS = ("http://www.scottreed.info/files/", "http://www-personal.umich.edu/~reedscot/files/")
_NORB = ("https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/",)
_NORB_DIGESTS = {
    "5x46789x9x18x6x2x96x96-training-dat": "5ffd6272a07d32695ee1082a26a41a93a37aab8c28da047f8c34ed348d214873",
    "5x46789x9x18x6x2x96x96-training-cat": "2784e542c1922060691090952b6cd6278879a216c90f81476f0f00256d42cdaa",
    "5x46789x9x18x6x2x96x96-training-info": "de7eb932ebe7a4ee16217fead60660d0eb3d23632c2f4d1c51f88c501c17bf32",
    "5x01235x9x18x6x2x96x96-testing-dat": "cf7104eed3e51174d2f65b66d1e5878b9da233b886f161b0d88f4510ba2c7474",
    "5x01235x9x18x6x2x96x96-testing-cat": "ecaf6d5bb8c3bc5eab9cf0258f6d2198dd474e016e374836fc097f2e5ff509ff",
    "5x01235x9x18x6x2x96x96-testing-info": "16adf314226327ee006d1a44db8cfef52773c06c829951d5653a9f6f310248a2",
}
# The authors moved them in 2024 and 2025. Of the folder of 2024, mpi3d_real, there called real.npz, was damaged.
_MPI3D = ("https://huggingface.co/datasets/waleedgondal/mpi3d/resolve/main/",)
_MPI3D_2024 = "https://storage.googleapis.com/mpi3d_disentanglement_dataset/data/"

# The digests are those of TensorFlow Datasets (the .hdf5 of dSprites, 3D Shapes, SmallNORB), of disent (Cars3D, MPI3D),
# and of latte and four other loaders (the .npz of dSprites).
FILES: dict[str, tuple[Source, ...]] = {
    "dsprites": (
        _at(_DSPRITES, f"{_SPRITES}.npz", "md5:7da33b31b13a06f4b04a70402ce90c2e", 5),
        _at(
            _DSPRITES,
            f"{_SPRITES}.hdf5",
            "sha256:729fa22e884c9c500e1f17415d580746b4c5894fbbb780a1319bbcfa39a745bb",
            1,
        ),
    ),
    "shapes3d": (
        _at(_SHAPES, "3dshapes.h5", "sha256:0a0f6ed98baff276a50f3a081a7434d788da63cb135a98189b2a5b5769be1785", 2),
    ),
    "cars3d": (_at(_CARS, "nips2015-analogy-data.tar.gz", "md5:4e866a7919c1beedf53964e6f7a23686", 2),),
    "smallnorb": tuple(
        _at(_NORB, f"smallnorb-{stem}.mat.gz", f"sha256:{digest}", 1) for stem, digest in _NORB_DIGESTS.items()
    ),
    "mpi3d": (
        _at((*_MPI3D, _MPI3D_2024), "mpi3d_toy.npz", "md5:55889cb7c7dfc655d6e0277beee88868", 2),
        _at((*_MPI3D, _MPI3D_2024), "mpi3d_realistic.npz", "md5:59a6225b88b635365f70c91b3e52f70f", 1),
        _at(_MPI3D, "mpi3d_real.npz", "md5:0f33f609918fb5c97996692f91129802", 1),
        Source(
            "real3d_complicated_shapes_ordered.npz",
            (),
            page="https://drive.google.com/file/d/1Tp8eTdHxgUMtsZv5uAoYAbJR1BOa_OQm/view",
        ),
    ),
}
"""The published files of each data set, by its name."""
