"""beta-TCVAE as a LightningModule: an objective on networks of your own, and MIG over the batches of a test."""

from __future__ import annotations

import argparse

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from disentangle_ext import metrics, models, objectives
from disentangle_ext.data import DSpritesLike


class DisentangledVAE(lightning.LightningModule):
    """Trains on the images of batches (images, factors); a test scores the codes against the factors."""

    def __init__(self, dataset_size: int, *, latents: int, beta: float, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        encoder = nn.Sequential(
            *(nn.Flatten(), nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()),
            nn.Linear(256, 2 * latents),  # means before log-variances
        )
        decoder = nn.Sequential(
            *(nn.Linear(latents, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()),
            *(nn.Linear(256, 1024), nn.Unflatten(1, (1, 32, 32))),  # logits of the pixels
        )
        self.model = models.VAE(encoder, decoder, latents)
        self.objective = objectives.BetaTCVAE(dataset_size=dataset_size, beta=beta)
        self.mig = metrics.MIG()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, _ = batch
        loss = self.objective(self.model(images), images)
        self.log_dict(loss.terms, prog_bar=True)
        return loss.total

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, factors = batch
        output = self.model(images)
        self.log_dict(self.objective(output, images).terms)
        self.mig.update(output.mu, factors)

    def on_test_epoch_end(self) -> None:
        self.log("mig", self.mig.compute().score)
        self.mig.reset()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.hparams.lr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="updates")
    parser.add_argument("--batch-size", type=int, default=64, help="images in a batch")
    parser.add_argument("--latents", type=int, default=6, help="latents D")
    parser.add_argument("--beta", type=float, default=15.0, help="weight of the total correlation")
    parser.add_argument("--lr", type=float, default=1e-3, help="learning rate of Adam")
    parser.add_argument("--seed", type=int, default=0, help="of the weights, the batches and the noise")
    args = parser.parse_args()

    lightning.seed_everything(args.seed)
    data = DSpritesLike(variant="quick")  # 1,536 images of 32 x 32
    module = DisentangledVAE(len(data), latents=args.latents, beta=args.beta, lr=args.lr)
    trainer = lightning.Trainer(max_steps=args.steps, devices=1, logger=False, enable_checkpointing=False)
    trainer.fit(module, DataLoader(data, args.batch_size, shuffle=True))
    trainer.test(module, DataLoader(data, 256), verbose=False)
    result = {name: value.item() for name, value in trainer.callback_metrics.items()}
    print(f"reconstruction {result['reconstruction']:.1f}, KL {result['kl']:.2f}, MIG {result['mig']:.3f}")


if __name__ == "__main__":
    main()
