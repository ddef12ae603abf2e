"""Choosing by name, with a helpful error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from disentangle_ext._errors import MistakeError, describe


def choose(kind: str, name: str, known: Iterable[str]) -> str:
    """Return ``name`` if it is one of ``known``.

    Args:
        kind: who asks for what, for example "train: model"; begins the error message.
        name: the name to look up.
        known: the names there are.

    Raises:
        MistakeError: "train: unknown model 'beta_tcvea': did you mean 'beta_tcvae'? known: beta_tcvae, beta_vae".
    """
    known = tuple(known)
    # An array would be compared with the names element by element.
    if isinstance(name, str) and name in known:
        return name
    names = sorted(known)
    asker, _, noun = kind.rpartition(": ")
    prefix = f"{asker}: " if asker else ""
    if not isinstance(name, str):
        raise MistakeError(f"{prefix}{noun} must be one of {', '.join(names)}, got {describe(name)}")
    lower = {each.lower(): each for each in names}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    hint = f": did you mean {lower[near[0]]!r}? known: " if near else ": known: "
    raise MistakeError(f"{prefix}unknown {noun} {name!r}{hint}{', '.join(names)}")
