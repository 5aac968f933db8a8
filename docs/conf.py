"""Configuration of Sphinx. `just docs` builds the site into `build/docs/html`."""

import os
import sys
from pathlib import Path

# Keras must be imported with this backend for jlstm.compat.keras. The notebooks, in processes of their own, have the default one.
os.environ["KERAS_BACKEND"] = "jax"
import jlstm.compat.keras

del os.environ["KERAS_BACKEND"]

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "ext"))

project = "jlstm"
author = "The jlstm authors"
project_copyright = f"2026, {author}"
version = release = jlstm.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "links",
    "docstrings",
    "api_coverage",
]
exclude_patterns = ["_build"]
smartquotes_action = "D"  # only dashes: h' is the next h

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3  # headings are link targets, as on a code host
suppress_warnings = ["myst.header"]  # a page may begin with a table of contents

# Only the pages in `tutorials` have code cells. The Python blocks of other pages are run by tests/project/test_docs.py.
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE.parent / "build" / "docs" / "notebooks")
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # seconds per cell
nb_merge_streams = True

autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings state shapes and dtypes, which annotations of jaxtyping would repeat
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]  # a list, as that of arguments
maximum_signature_line_length = 100
add_module_names = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# Names of other projects would need their inventories from the network, so they are not linked.
nitpick_ignore_regex = [("py:.*", r"(?!jlstm|parity).*")]

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

pygments_style = "friendly"
pygments_dark_style = "github-dark"
html_theme = "furo"
html_title = "jlstm"
html_static_path = ["static"]
html_css_files = ["jlstm.css"]
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0072B2",
        "color-brand-content": "#0072B2",
    },
    "dark_css_variables": {
        "color-brand-primary": "#56B4E9",
        "color-brand-content": "#56B4E9",
    },
}
html_show_sourcelink = False
