"""What every objective has in common."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from disentangle_ext._errors import MistakeError
from disentangle_ext.models.vae import VAE, VAEOutput
from disentangle_ext.objectives.likelihood import Scale, check_likelihood


class Loss(NamedTuple):
    """A loss and what it consists of, in nats, averaged over the batch."""

    total: Tensor
    """The scalar to minimise."""
    terms: dict[str, Tensor]
    """Its terms without their weights, scalars."""


Changes = Literal["one", "random"]


class Objective(nn.Module):
    """Base of the objectives: ``forward(output, images, *, step=0, key=None) -> Loss``.

    ``step`` counts the updates from 0, for objectives whose weights follow a schedule: a number, or an int64 scalar on
    the device, where the update is replayed as a graph. ``key``, int64 [2], decides what an objective draws itself, a
    sample of the prior for example; without one it is drawn from torch's generator.

    Args:
        likelihood: p(x|z): "bernoulli", "gaussian" or "laplace".
        scale: scale of the Gaussian or Laplace likelihood: a number, or "learned": one for all pixels, whose logarithm
            is a parameter of the objective and is trained with the model: :meth:`likelihood_parameters`.

    Raises:
        ValueError: for an unknown likelihood, or a scale that means nothing.
    """

    deterministic: bool = False
    """Whether the decoder gets the posterior means, without noise: ``model(images, sample=False)``."""

    smallest_batch: int = 1
    """Images that a batch must have for the terms to mean something."""

    log_scale: nn.Parameter | None
    """The logarithm of a learned scale."""

    process_group: ProcessGroup | None = None
    """Ranks that each hold an equal shard of the batch, set by whoever trains on them: terms of the whole batch, such
    as a total correlation, then are that, and the mean over ranks of the gradient is the gradient of one process. All
    ranks make the same calls with the same keys, which must be given. A copy keeps it, a pickle does not."""

    def __init__(self, *, likelihood: str = "bernoulli", scale: Scale = 1.0) -> None:
        super().__init__()
        check_likelihood(type(self).__name__, likelihood, scale)
        self.likelihood = likelihood
        self.scale = scale

    @property
    def scale(self) -> Any:
        """The scale of the likelihood: the number, or what has been learned so far, a scalar tensor."""
        return self._scale if self.log_scale is None else self.log_scale.exp()

    @scale.setter
    def scale(self, value: Scale) -> None:
        self._scale = value
        self.log_scale = nn.Parameter(torch.zeros(())) if value == "learned" else None

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        state.pop("process_group", None)
        return state

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        duplicate = memo[id(self)] = type(self).__new__(type(self))
        duplicate.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        duplicate.process_group = self.process_group
        return duplicate

    def likelihood_parameters(self) -> list[nn.Parameter]:
        """What an optimiser of the model has to train beside the model: the logarithm of a learned scale, or nothing.

        >>> parameters = [*model.parameters(), *objective.likelihood_parameters()]
        """
        return [] if self.log_scale is None else [self.log_scale]

    def evaluate(
        self,
        model: VAE,
        images: Tensor,
        *,
        step: int | Tensor = 0,
        key: Tensor | None = None,
        own_key: Tensor | None = None,
        group: Tensor | None = None,
    ) -> tuple[VAEOutput, Loss]:
        """What the model makes of a batch, and the loss on it: for objectives that reach into the model, too.

        Args:
            model: the model.
            images: [B, C, H, W] in [0, 1].
            step: updates done, from 0.
            key: key of the posteriors' noise, int64 [2].
            own_key: key of what the objective draws itself, int64 [2].
            group: which group of factors varies in the batch, an integer; only for a :class:`GroupObjective`.
        """
        output = model(images, sample=not self.deterministic, key=key, process_group=self.process_group)
        return output, self(output, images, step=step, key=own_key)

    def forward(self, output: VAEOutput, images: Tensor, *, step: int | Tensor = 0, key: Tensor | None = None) -> Loss:
        """The loss on what the model made of a batch.

        Args:
            output: what the model returned for B images.
            images: [B, C, H, W] in [0, 1].
            step: updates done, from 0.
            key: key of what the objective draws itself, int64 [2].
        """
        raise NotImplementedError

    def measure(self, output: VAEOutput) -> dict[str, Tensor]:
        """Quantities worth logging that are not terms of the loss, scalars; called without gradients.

        By default the ``scale``, if it is learned.
        """
        return {} if self.log_scale is None else {"scale": self.log_scale.detach().exp()}


class AdversarialObjective(Objective):
    """An objective with parameters of its own, which Adam trains against the model.

    After each update of the model on ``forward``, whose gradient does not reach :meth:`adversary_parameters`, these are
    updated on :meth:`adversary`, whose gradient does not reach the model.

    Args:
        lr: learning rate of the objective's own parameters.
        betas: Adam's beta1 and beta2.
        second_batch: whether :meth:`adversary` gets the codes of a second, independent batch as ``others``, encoded
            after the update of the model, or those of the same batch again.
        likelihood: as for :class:`Objective`.
        scale: as for :class:`Objective`.

    Raises:
        ValueError: for a learning rate that is not positive, or betas outside [0, 1).
    """

    def __init__(
        self,
        *,
        lr: float,
        betas: tuple[float, float],
        second_batch: bool = False,
        likelihood: str = "bernoulli",
        scale: Scale = 1.0,
    ) -> None:
        super().__init__(likelihood=likelihood, scale=scale)
        name = type(self).__name__
        if not 0 < lr < math.inf:
            raise MistakeError(f"{name}: the discriminator's lr must be greater than 0 and finite, got {lr}")
        if not all(0 <= beta < 1 for beta in betas):
            raise MistakeError(f"{name}: the discriminator's betas must be in [0, 1), got {tuple(betas)}")
        self.lr = lr
        self.betas = betas
        self.second_batch = second_batch

    def adversary_parameters(self) -> list[nn.Parameter]:
        """The objective's own parameters, which :meth:`adversary` trains: all but :meth:`likelihood_parameters`."""
        return [parameter for parameter in self.parameters() if parameter is not self.log_scale]

    def adversary(self, codes: Tensor, others: Tensor, *, key: Tensor | None = None) -> Tensor:
        """The scalar that the objective's own parameters minimise, in nats.

        Args:
            codes: codes of the batch that the model was updated on [B, D].
            others: the same codes, or those of a second batch.
            key: int64 [2], decides what is drawn; without one it is drawn from torch's generator.
        """
        raise NotImplementedError


class PairObjective(Objective):
    """An objective whose batches are pairs: the second half of the images differs from the first in a few factors."""

    changes: Changes
    """How many factors of a pair are drawn anew: "one", or a "random" number from 1 to all but one."""


class GroupObjective(Objective):
    """An objective in whose batches one group of factors varies, and all other factors stand still."""

    groups: Mapping[str, Sequence[str]]
    """The factors of each group."""
    weights: Mapping[str, float]
    """How often a group is drawn, relative to 1."""
    latents: Mapping[str, int]
    """The latent of each factor that has one of its own."""
