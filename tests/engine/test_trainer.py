"""The loop on a small model: what an update does, resuming, and losses that are not finite."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from disentangle_ext.data import ArrayData
from disentangle_ext.engine.batches import BatchOrder
from disentangle_ext.engine.descent import Descent, Schedule
from disentangle_ext.engine.meter import Meter, NonFiniteLossError
from disentangle_ext.engine.randomness import noise_key
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.models import VAEOutput, build_vae
from disentangle_ext.objectives import (
    DCIGN,
    AdaGVAE,
    AdversarialObjective,
    BetaTCVAE,
    FactorVAE,
    InfoVAE,
    Loss,
    Objective,
    PlainAE,
    discriminator_loss,
)
from disentangle_ext.runs.checkpoint import last_checkpoint, save_checkpoint

STEPS = 11


def make(
    seed: int = 0,
    *,
    autocast: torch.dtype | None = None,
    objective: Objective | None = None,
    lr: float = 1e-3,
    batch_size: int = 8,
) -> Trainer:
    torch.manual_seed(0)
    pixels = torch.randint(256, (40, 1, 32, 32), dtype=torch.uint8)
    model = build_vae("conv", (1, 32, 32), 3, base_channels=4)
    model = model.to(memory_format=torch.channels_last)
    objective = objective or BetaTCVAE(dataset_size=40)
    adversary = None
    if isinstance(objective, AdversarialObjective):
        own = torch.optim.Adam(objective.parameters(), betas=objective.betas, fused=True)
        adversary = Descent(own, Schedule(objective.lr, "cosine", 3, STEPS))
    return Trainer(
        model,
        objective,
        ArrayData(pixels, list(product(range(2), range(4), range(5)))),
        adversary=adversary,
        descent=Descent(torch.optim.Adam(model.parameters(), fused=True), Schedule(lr, "cosine", 3, STEPS)),
        batch_size=batch_size,
        seed=seed,
        autocast=autocast,
    )


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert different == []


def test_an_update_is_one_adam_step_on_the_objective() -> None:
    trainer = make()
    peer = make()
    images = peer.data.batch(peer.order.index(0))
    loss = peer.objective(peer.model(images, key=torch.tensor([0, 0])), images)
    loss.total.backward()
    torch.optim.Adam(peer.model.parameters(), lr=1e-3 / 3).step()
    trainer.update()
    for ours, theirs in zip(trainer.model.parameters(), peer.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_training_reduces_the_loss() -> None:
    trainer = make()
    first = trainer.read(trainer.update())["loss"]
    for _ in range(60):
        output = trainer.update()
    assert trainer.read(output)["loss"] < first


def factor_vae(second_batch: bool = False) -> FactorVAE:
    torch.manual_seed(1)
    return FactorVAE(latent_dim=3, second_batch=second_batch, discriminator_layers=2, discriminator_width=16)


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "beta_tcvae": lambda: BetaTCVAE(dataset_size=40),
    "info_vae": InfoVAE,
    "factor_vae": factor_vae,
    "factor_vae of two batches": lambda: factor_vae(True),
    "ada_gvae": AdaGVAE,
    "dcign": lambda: DCIGN(latent_dim=3, factor_names=[f"factor_{k}" for k in range(3)], extrinsic=("factor_1",)),
}


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_resume_is_bit_exact(tmp_path: Path, objective: str, autocast: torch.dtype | None) -> None:
    def make_one() -> Trainer:
        return make(autocast=autocast, objective=OBJECTIVES[objective]())

    whole, cuts = make_one(), (0, 1, 4, 6, STEPS - 1)
    for step in range(STEPS):
        if step in cuts:
            save_checkpoint(tmp_path / str(step), whole.checkpoint())
        output = whole.update()
    want, untouched = whole.checkpoint(), make_one()
    for _ in range(STEPS):
        untouched.update()
    assert_equal(untouched.checkpoint().tensors, want.tensors)  # saving changes nothing
    want_row = whole.read(output)

    for cut in cuts:
        found = last_checkpoint(tmp_path / str(cut))
        assert found is not None
        resumed = make_one()
        with torch.no_grad():
            for parameter in (*resumed.model.parameters(), *resumed.objective.parameters()):
                parameter.add_(1)
        resumed.load(found)
        assert resumed.step == cut
        while resumed.step < STEPS:
            output = resumed.update()
        assert_equal(weights(resumed), weights(whole))
        assert_equal(resumed.checkpoint().tensors, want.tensors)
        assert resumed.checkpoint().state == want.state
        assert resumed.read(output) == want_row


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_global_random_state_has_no_influence(objective: str) -> None:
    one, two = (make(objective=OBJECTIVES[objective]()) for _ in range(2))
    for trainer, seed in ((one, 1), (two, 2)):
        torch.manual_seed(seed)
        for _ in range(3):
            trainer.update()
            torch.rand(seed)
    assert_equal(weights(one), weights(two))


def test_seed_decides_order_and_noise() -> None:
    one, two = make(seed=1), make(seed=2)
    assert not torch.equal(one.order.index(0), two.order.index(0))
    a, b = one.update(), two.update()
    assert not torch.equal(a.z - a.mu, b.z - b.mu)


@pytest.mark.parametrize("second_batch", [False, True])
def test_an_adversary_descends_after_the_model(second_batch: bool) -> None:
    """One update by hand: the model on its loss, then the discriminator on codes of before and, of after, others."""
    trainer, peer = (make(objective=factor_vae(second_batch)) for _ in range(2))
    for step in range(2):
        trainer.update()
        images = peer.data.batch(peer.order.index(step))
        output = peer.model(images, key=noise_key(0, step))
        peer.objective(output, images).total.backward()
        rate = (step + 1) / 3 * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / STEPS)))
        peer.descent.optimizer.param_groups[0]["lr"] = 1e-3 * rate
        peer.descent.optimizer.step()
        others = output.z
        if second_batch:
            rows = BatchOrder(40, 8, 0, second=True).index(step)
            assert rows.tolist() != peer.order.index(step).tolist()
            others = peer.model(peer.data.batch(rows), key=noise_key(0, step, stream=2)).z
        peer.adversary.optimizer.zero_grad()
        loss = discriminator_loss(
            output.z, others, discriminator=peer.objective.discriminator, key=noise_key(0, step, stream=3)
        )
        loss.backward()
        peer.adversary.optimizer.param_groups[0]["lr"] = 1e-4 * rate
        peer.adversary.optimizer.step()
        peer.descent.optimizer.zero_grad()
        assert trainer.meter.state()[0][-1] >= float(loss.detach())
        for module in ("model", "objective"):
            ours, theirs = (dict(getattr(each, module).named_parameters()) for each in (trainer, peer))
            for name in ours:
                torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6, msg=f"{name}, step {step}")


def test_an_adversary_is_neither_forgotten_nor_idle() -> None:
    trainer = make()
    options = {"descent": trainer.descent, "batch_size": 8, "seed": 0}
    for objective, adversary in ((factor_vae(), None), (InfoVAE(), trainer.descent)):
        with pytest.raises(ValueError, match="Trainer: adversary is for adversarial objectives"):
            Trainer(trainer.model, objective, trainer.data, adversary=adversary, **options)


@pytest.mark.parametrize("name", ["ada_gvae", "dcign"])
def test_batches_drawn_with_replacement_can_be_larger_than_the_data_set(name: str) -> None:
    output = make(objective=OBJECTIVES[name](), batch_size=48).update()
    assert len(output.mu) == 48


@pytest.mark.parametrize("name", ["info_vae", "factor_vae of two batches"])
def test_other_batches_cannot_be_larger_than_the_data_set(name: str) -> None:
    with pytest.raises(ValueError, match="BatchOrder: batch_size must be from 1 to the 40 images there are, got 48"):
        make(objective=OBJECTIVES[name](), batch_size=48)


def test_a_deterministic_objective_gets_no_noise() -> None:
    output = make(objective=PlainAE()).update()
    assert torch.equal(output.z, output.mu)


def test_bf16_keeps_weights_and_losses_in_float32() -> None:
    trainer = make(autocast=torch.bfloat16)
    output = trainer.update()
    assert output.reconstruction.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}
    close, exact = trainer.read(output), make()
    want = exact.read(exact.update())
    assert close["loss"] == pytest.approx(want["loss"], rel=0.02)
    assert close["loss"] != want["loss"]


def test_read_averages_terms_since_the_last_read_and_measures_the_last_batch() -> None:
    trainer = make()
    single = []
    for _ in range(3):
        output = trainer.update()
        single.append(trainer.read(output))
    again = make()
    for _ in range(3):
        output = again.update()
    row = again.read(output)
    assert list(row)[:4] == ["loss", "reconstruction", "kl", "tc_mws"]
    for name in ("loss", "reconstruction", "kl", "tc_mws"):
        assert row[name] == pytest.approx(sum(each[name] for each in single) / 3, rel=1e-5)
    assert row["total_correlation"] == single[-1]["total_correlation"]
    assert row["total_correlation"] == float(again.objective.measure(output)["total_correlation"])


class Breaking(Objective):
    """A loss whose term ``second`` is infinite from one step on."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def forward(self, output: VAEOutput, images: Tensor, *, step: int = 0, key: Tensor | None = None) -> Loss:
        first = output.reconstruction.square().mean()
        second = output.kl.mean() * (torch.inf if step >= self.at else 1.0)
        return Loss(first + second, {"first": first, "second": second})


def test_a_loss_that_is_not_finite_names_its_first_step_and_term() -> None:
    trainer = make(objective=Breaking(3))
    for _ in range(3):
        output = trainer.update()
    assert trainer.read(output)["second"] > 0
    for _ in range(4):
        output = trainer.update()
    with pytest.raises(NonFiniteLossError, match="second is inf at step 3") as error:
        trainer.read(output)
    assert (error.value.step, error.value.term) == (3, "second")
    with pytest.raises(NonFiniteLossError, match="step 3"):
        trainer.checkpoint()


def test_the_total_is_blamed_only_when_no_term_is() -> None:
    meter = Meter()
    huge = torch.tensor(3e38)
    meter.add(5, Loss(huge * 10, {"a": huge, "b": huge}))
    with pytest.raises(NonFiniteLossError, match="loss is inf at step 5"):
        meter.check()


def test_weights_that_are_not_finite_are_never_saved() -> None:
    """The loss of a step is measured before its update: the last one may spoil the weights unseen."""
    trainer = make(lr=float("inf"))
    trainer.update()
    trainer.meter.check()
    with pytest.raises(NonFiniteLossError, match=r"encoder\..* is nan at step 0"):
        trainer.checkpoint()
