"""The page: `masklet app` opens it in a browser, on a server of this machine.

The files in `page/` are plain HTML, CSS and ES modules: nothing is built, and nothing is loaded from elsewhere.
"""

from masklet.app.run_app import AppOptions, run_app

__all__ = ["AppOptions", "run_app"]
