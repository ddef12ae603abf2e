"""A row has the same bits on a GPU as on a CPU."""

from __future__ import annotations

import pytest
import torch

from disentangle_ext.data import DSpritesLike, FacesLike, Shapes3DLike, TorusLike

SETS = {
    "dsprites_like": DSpritesLike,
    "color": lambda: DSpritesLike(effect="color"),
    "noisy": lambda: DSpritesLike(effect="noisy"),
    "texture": lambda: DSpritesLike(effect="texture"),
    "shapes3d_like": Shapes3DLike,
    "faces_like": lambda: FacesLike("quick"),
    "torus_like": lambda: TorusLike(factors=4),
}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", SETS)
def test_images_on_cuda_are_those_of_the_cpu(name):
    data = SETS[name]()
    index = torch.randint(len(data), (500,), generator=torch.Generator().manual_seed(0))
    images, factors = data.images(index), data.factors(index)
    data = data.to("cuda")
    on_gpu = data.images(index)
    assert on_gpu.device.type == "cuda"
    assert torch.equal(on_gpu.cpu(), images)
    assert torch.equal(data.factors(index).cpu(), factors)
    seeds = [torch.Generator().manual_seed(1) for _ in range(2)]
    drawn = [each.sample_images(factors[:9], generator=seed) for each, seed in zip((data, SETS[name]()), seeds)]
    assert torch.equal(drawn[0].cpu(), drawn[1])
