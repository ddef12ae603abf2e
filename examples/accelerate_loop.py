"""beta-TCVAE with Hugging Face Accelerate: one module of your own, on one device or, with accelerate launch, many."""

from __future__ import annotations

import argparse

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, RandomSampler

from disentangle_ext import metrics, ops
from disentangle_ext.data import DSpritesLike


class VAE(nn.Module):
    """Encoder and decoder in one module, whose call is what Accelerate wraps: gradients are shared through it alone."""

    def __init__(self, latents: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Flatten(), nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()),
            nn.Linear(256, 2 * latents),
        )
        self.decoder = nn.Sequential(
            *(nn.Linear(latents, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()),
            *(nn.Linear(256, 1024), nn.Unflatten(1, (1, 32, 32))),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        mu, logvar = self.encoder(images).chunk(2, dim=1)
        z, kl = ops.rsample_kl(mu, logvar)
        return self.decoder(z), z, mu, logvar, kl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="updates")
    parser.add_argument("--batch-size", type=int, default=64, help="images in a batch, of each process")
    parser.add_argument("--latents", type=int, default=6, help="latents D")
    parser.add_argument("--beta", type=float, default=15.0, help="weight of the total correlation")
    parser.add_argument("--lr", type=float, default=1e-3, help="learning rate of Adam")
    parser.add_argument("--seed", type=int, default=0, help="of the weights, the batches and the noise")
    args = parser.parse_args()

    accelerator = Accelerator()
    # The noise of rsample_kl comes from torch's generator: with one seed for all, processes would draw the same.
    set_seed(args.seed, device_specific=True)
    data = DSpritesLike(variant="quick")  # 1,536 images of 32 x 32
    model = VAE(args.latents)
    optimizer = torch.optim.Adam(model.parameters(), args.lr)
    count = args.steps * args.batch_size * accelerator.num_processes
    batches = DataLoader(data, args.batch_size, sampler=RandomSampler(data, num_samples=count))
    model, optimizer, batches = accelerator.prepare(model, optimizer, batches)

    for step, (images, _) in enumerate(batches, start=1):
        logits, z, mu, logvar, kl = model(images)
        # Each process estimates q(z) from its own batch, and the mean of their gradients is followed.
        tc = ops.total_correlation(z, mu, logvar, dataset_size=len(data), estimator="mws")
        recon = F.binary_cross_entropy_with_logits(logits, images, reduction="none").flatten(1).sum(1).mean()
        optimizer.zero_grad()
        accelerator.backward(recon + kl.mean() + (args.beta - 1) * tc)
        optimizer.step()
        if step % 100 == 0:
            accelerator.print(f"step {step}: reconstruction {recon:.1f}, KL {kl.mean():.2f}")

    mig = metrics.MIG(factor_names=data.factor_names)
    with torch.no_grad():
        for images, factors in accelerator.prepare(DataLoader(data, 256)):
            mig.update(*accelerator.gather_for_metrics((model(images)[2], factors)))
    accelerator.print(mig.compute())
    accelerator.end_training()


if __name__ == "__main__":
    main()
