"""FactorVAE in a plain PyTorch loop: two optimisers that take turns, and losses that leave the other side alone."""

from __future__ import annotations

import argparse

import torch
from torch.utils.data import DataLoader, RandomSampler

from disentangle_ext import metrics, models, objectives
from disentangle_ext.data import DSpritesLike


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000, help="updates of each side")
    parser.add_argument("--batch-size", type=int, default=64, help="images in a batch")
    parser.add_argument("--latents", type=int, default=6, help="latents D")
    parser.add_argument("--gamma", type=float, default=60.0, help="weight of the total correlation")
    parser.add_argument("--lr", type=float, default=1e-3, help="learning rate of both")
    parser.add_argument("--seed", type=int, default=0, help="of the weights, the batches and the noise")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    data = DSpritesLike(variant="quick")  # 1,536 images of 32 x 32
    model = models.build_vae("conv", data.image_shape, args.latents, base_channels=8)
    discriminator = models.Discriminator(args.latents, layers=3, width=256)
    optimizer = torch.optim.Adam(model.parameters(), args.lr)
    its_optimizer = torch.optim.Adam(discriminator.parameters(), args.lr, betas=(0.5, 0.9))
    batches = DataLoader(data, args.batch_size, sampler=RandomSampler(data, num_samples=args.steps * args.batch_size))

    for step, (images, _) in enumerate(batches, start=1):
        # The discriminator is a constant in this loss, which must not train it to call its own estimate small.
        output = model(images)
        loss = objectives.factor_vae(output, images, discriminator=discriminator, gamma=args.gamma)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        # And the codes are constants in this one: otherwise the encoder would help to tell them apart.
        its_loss = objectives.discriminator_loss(output.z, output.z, discriminator=discriminator)
        its_optimizer.zero_grad()
        its_loss.backward()
        its_optimizer.step()
        if step % 100 == 0:
            values = {name: value.item() for name, value in loss.terms.items()}
            print(
                f"step {step}: reconstruction {values['reconstruction']:.1f}, KL {values['kl']:.2f}, "
                f"TC {values['tc_discriminator']:.2f}, discriminator {its_loss:.3f} (.693 when it guesses)"
            )

    mig = metrics.MIG(factor_names=data.factor_names)
    with torch.no_grad():
        for images, factors in DataLoader(data, 256):
            mig.update(model.encode(images)[0], factors)
    print(mig.compute())


if __name__ == "__main__":
    main()
