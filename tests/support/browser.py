"""A headless Chromium that loads a page from a file, without a network, and returns what became of it."""

import html
import re
import shutil
import subprocess
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")


def program() -> str | None:
    """Return the path of Chromium, or None if it is not installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """Chromium with a profile folder that no other test uses."""

    def __init__(self, folder: Path):
        self.program = program()
        assert self.program, "these tests look at the page in Chromium: install it (apt-get install chromium)"
        self.folder = folder

    def run(self, page: str, *flags: str, address: str = "") -> subprocess.CompletedProcess:
        file = self.folder / "page.html"
        file.write_text(page)
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--hide-scrollbars"]
        isolation = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={self.folder / 'profile'}"]
        command = [self.program, *options, *isolation, *flags, f"file://{file}{address}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)

    def load(self, page: str, *flags: str, address: str = "") -> tuple[str, list[str]]:
        """Return the page's elements once its script has run, and the lines of the console."""
        result = self.run(page, "--dump-dom", *flags, address=address)
        return result.stdout, [line for line in result.stderr.splitlines() if "CONSOLE" in line]

    def evaluate(self, page: str, question: str, *flags: str, width: int = 1200) -> str:
        """Return the value of a JavaScript expression of `window` and `document`, evaluated in a frame of that width."""
        frame = f'<iframe style="border:0" width="{width}" height="900" srcdoc="{html.escape(page)}"></iframe>'
        script = (
            'onload = () => { const window = document.querySelector("iframe").contentWindow; '
            f"const answer = ((window, document) => ({question}))(window, window.document); "
            'const tag = document.createElement("output"); tag.id = "answer"; tag.textContent = String(answer); '
            "document.body.replaceChildren(tag); }"
        )
        dom, console = self.load(f"<!doctype html><body>{frame}<script>{script}</script></body>", *flags)
        assert not console, console
        return html.unescape(re.search(r'<output id="answer">(.*?)</output>', dom, re.DOTALL)[1])


def with_script(page: str, script: str) -> str:
    """Return the page with one more script, which clicks and types as a user does."""
    return page.replace("</body>", f"<script>{script}</script></body>")
