"""Make links to files outside of this folder work on the site as they do on a code host."""

from typing import Any

from sphinx.application import Sphinx

PAGES = {  # by the path from docs: the page of the site with the same text
    "../CHANGELOG.md": "changelog.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../benchmarks/results/speed.md": "measurements.md",
    "../fuzz/README.md": "fuzzing.md",
}


def replace_links(app: Sphinx, page: str, source: list[str]) -> None:
    """Point links to a file that a page of the site includes to that page."""
    for path, target in PAGES.items():
        source[0] = source[0].replace(f"]({path})", f"]({target})")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the handler with Sphinx."""
    app.connect("source-read", replace_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
