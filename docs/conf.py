"""How Sphinx makes the pages: ``sphinx-build -W docs build/pages``."""

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
default_role = "code"  # docstrings have names in single backticks
graphviz_output_format = "svg"
