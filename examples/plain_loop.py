"""beta-TCVAE in a plain PyTorch loop: the ops in a loss of your own, with an encoder and a decoder of your own."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, RandomSampler

from disentangle_ext import metrics, ops
from disentangle_ext.data import DSpritesLike


class Encoder(nn.Module):
    """Images [B, 1, 32, 32] to the means and log-variances of q(z|x), [B, D] each."""

    def __init__(self, latents: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
        self.mu = nn.Linear(256, latents)
        self.logvar = nn.Linear(256, latents)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.hidden(images)
        return self.mu(hidden), self.logvar(hidden)


class Decoder(nn.Module):
    """Codes [B, D] to the logits of the pixels [B, 1, 32, 32]."""

    def __init__(self, latents: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(latents, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
        self.logits = nn.Sequential(nn.Linear(256, 1024), nn.Unflatten(1, (1, 32, 32)))

    def forward(self, z: Tensor) -> Tensor:
        logits: Tensor = self.logits(self.hidden(z))
        return logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="updates")
    parser.add_argument("--batch-size", type=int, default=64, help="images in a batch")
    parser.add_argument("--latents", type=int, default=6, help="latents D")
    parser.add_argument("--beta", type=float, default=15.0, help="weight of the total correlation")
    parser.add_argument("--lr", type=float, default=1e-3, help="learning rate of Adam")
    parser.add_argument("--seed", type=int, default=0, help="of the weights, the batches and the noise")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    data = DSpritesLike(variant="quick")  # 1,536 images of 32 x 32
    encoder, decoder = Encoder(args.latents), Decoder(args.latents)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], args.lr)
    batches = DataLoader(data, args.batch_size, sampler=RandomSampler(data, num_samples=args.steps * args.batch_size))

    for step, (images, _) in enumerate(batches, start=1):
        mu, logvar = encoder(images)
        z, kl = ops.rsample_kl(mu, logvar)
        tc = ops.total_correlation(z, mu, logvar, dataset_size=len(data), estimator="mws")
        # Summed over pixels as the KL is over latents: with their mean, beta would be 1,024 times as strong.
        recon = F.binary_cross_entropy_with_logits(decoder(z), images, reduction="none").flatten(1).sum(1).mean()
        loss = recon + kl.mean() + (args.beta - 1) * tc
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step}: reconstruction {recon:.1f}, KL {kl.mean():.2f}")

    rows = torch.arange(len(data))
    with torch.no_grad():
        mu, logvar = encoder(data.batch(rows))
    # The gradient of mws trains, but as a number it is too high by about (D - 1) log N.
    exact = metrics.exact_elbo(mu, logvar).exact
    print(f"TC {exact['total_correlation'].mean:.3f}")
    print(metrics.mig(mu, data.factors(rows), factor_names=data.factor_names))


if __name__ == "__main__":
    main()
