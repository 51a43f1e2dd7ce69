"""Settings of Sphinx: the documentation's pages are the Markdown files of this folder."""

project = "ondevice"
author = "the ondevice authors"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "sphinx_copybutton",
]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "ondevice"
copybutton_prompt_text = "$ "
