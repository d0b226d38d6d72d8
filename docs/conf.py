"""How Sphinx makes the pages: ``sphinx-build -W docs build/pages``."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import made

from nornir_pools import __version__

project = "nornir_pools"
author = "the nornir_pools developers"
copyright = "the nornir_pools developers"
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.graphviz"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"nornir_pools {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
smartquotes_action = "qe"  # "--" stays what it is
default_role = "code"  # docstrings have names in single backticks
graphviz_output_format = "svg"
autodoc_mock_imports = ["joblib"]


def make_parts(app: Any, page: str, source: list[str]) -> None:
    """Put what is made from the code into a page that has been read."""
    for mark, make in made.PARTS.items():
        if mark in source[0]:
            source[0] = source[0].replace(mark, make())


def setup(app: Any) -> None:
    app.connect("source-read", make_parts)
