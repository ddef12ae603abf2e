"""The pictures of a trained model, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from disentangle_ext._files import WriteError
from disentangle_ext._names import choose
from disentangle_ext.report.animation import draw_animation
from disentangle_ext.report.factors import draw_factors
from disentangle_ext.report.grid import require_drawing
from disentangle_ext.report.losses import draw_losses
from disentangle_ext.report.reconstructions import draw_reconstructions
from disentangle_ext.report.samples import draw_samples
from disentangle_ext.report.subject import Subject
from disentangle_ext.report.sweeps import draw_sweeps
from disentangle_ext.report.traversals import draw_traversals
from disentangle_ext.runs.folder import PICTURE_FILES

__all__ = ["PICTURES", "Picture", "describe", "draw", "fitting"]


class Picture(NamedTuple):
    """One kind of picture."""

    file: str
    """Its name in a run folder."""
    draw: Callable[[Subject, Path], None]
    fits: Callable[[Subject], bool] = lambda subject: True
    """Whether there is anything to draw; if not, ``draw`` raises a ValueError that says why."""


PICTURES: dict[str, Picture] = {
    "traversals": Picture(PICTURE_FILES["traversals"], draw_traversals),
    "reconstructions": Picture(PICTURE_FILES["reconstructions"], draw_reconstructions),
    "samples": Picture(PICTURE_FILES["samples"], draw_samples),
    "factors": Picture(PICTURE_FILES["factors"], draw_factors, lambda subject: bool(subject.data.factor_names)),
    "sweeps": Picture(PICTURE_FILES["sweeps"], draw_sweeps, lambda subject: bool(subject.own)),
    "animation": Picture(PICTURE_FILES["animation"], draw_animation),
    "losses": Picture(PICTURE_FILES["losses"], draw_losses, lambda subject: bool(subject.metrics)),
}


def fitting(subject: Subject) -> list[str]:
    """Name the pictures for which the subject has something to draw."""
    return [name for name, picture in PICTURES.items() if picture.fits(subject)]


def draw(subject: Subject, folder: Path, names: Iterable[str] | None = None) -> dict[str, str]:
    """Draw pictures into a folder. One that fails does not keep the others from being drawn.

    Args:
        subject: what to draw.
        folder: where to write.
        names: which of :data:`PICTURES`; default: all that fit.

    Returns:
        For each picture that could not be drawn, the reason, in one line.

    Raises:
        ValueError: for an unknown name; the nearest known one is suggested.
        WriteError: if one that is drawn cannot be written: on a full disk the next would fail too.
    """
    wanted = fitting(subject) if names is None else [choose("report: picture", name, PICTURES) for name in names]
    try:
        require_drawing("report")
    except ImportError as error:
        return dict.fromkeys(wanted, str(error))
    failed = {}
    for name in dict.fromkeys(wanted):
        try:
            PICTURES[name].draw(subject, folder / PICTURES[name].file)
        except WriteError:
            raise
        except Exception as error:  # whatever it is: hours of training must not end in a traceback of a plot
            failed[name] = _one_line(error)
    return failed


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, (ValueError, ImportError)) and text else f"{type(error).__name__}: {text}"


def describe(failed: dict[str, str]) -> list[str]:
    """Lines that say which pictures were not drawn and why; pictures that failed alike share one."""
    reasons: dict[str, list[str]] = {}
    for name, reason in failed.items():
        reasons.setdefault(reason, []).append(name)
    return [f"Not drawn: {', '.join(names)}: {reason}" for reason, names in reasons.items()]
