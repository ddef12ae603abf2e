"""One HTML page that explains a study, with each figure as PNG and PDF, and the table behind it as CSV."""

from __future__ import annotations

from disentangle_ext.study.page.write import write_page

__all__ = ["write_page"]
