"""Links from what notebooks show of an estimator to its page in the documentation."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, metadata

__all__ = ["LinkedToDocs", "docs_address"]


def docs_address() -> str:
    """Return the address that the installed package names for its documentation.

    It is `Documentation` under `[project.urls]` in `pyproject.toml`.

    Returns
    -------
    str
        Without a slash at the end; empty if the package names none.
    """
    try:
        named = metadata("frozenbert").get_all("Project-URL") or ()
    except PackageNotFoundError:  # a folder that was only put on the path
        return ""
    addresses = dict(entry.split(", ", 1) for entry in named)
    return addresses.get("Documentation", "").rstrip("/")


class LinkedToDocs:
    """Mixin of estimators that have a page in the API reference.

    scikit-learn shows the link in an estimator's HTML. Without an address there is none.
    """

    _doc_page: str | None = None  # None is the page of the class in its module

    def _get_doc_link(self) -> str:
        kind, address = type(self), docs_address()
        page = self._doc_page or f"{kind.__module__}.{kind.__qualname__}"
        return f"{address}/api/generated/{page}.html" if address else ""
