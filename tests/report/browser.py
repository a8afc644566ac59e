"""A page in headless Chromium, looked at from a page around it."""

import html
import json
import shutil
import subprocess
from pathlib import Path

import pytest


def look(folder: Path, page: Path, script: str) -> dict:
    """Runs a script on a page, and returns what it finds out.

    Args:
        folder: for what the browser needs.
        script: body of an async function of `open(width)`, which shows the page anew in a frame so wide and gives its
            window; a headless window itself is at least 500 pixels wide. What it returns is returned.

    Fails if anything was said on the console; skips where there is no Chromium.
    """
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on PATH")
    source = json.dumps(page.read_text(encoding="utf-8")).replace("</", "<\\/").replace("<!--", "<\\!--")
    probe = folder / "probe.html"
    probe.write_text(
        f"""<meta charset="utf-8"><body><pre id="out"></pre><script>
const source = {source};
const open = (width) => new Promise((done) => {{
  const frame = document.createElement("iframe");
  Object.assign(frame.style, {{ width: width + "px", height: "800px", border: 0 }});
  frame.srcdoc = source;
  frame.onload = () => done(frame.contentWindow);
  document.body.append(frame);
}});
(async () => {{ {script} }})().catch((error) => ({{ error: String(error.stack) }})).then((found) => {{
  document.getElementById("out").textContent = JSON.stringify(found);
}});
</script>""",
        encoding="utf-8",
    )
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
         f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000", "--dump-dom", probe.as_uri()],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    found = json.loads(html.unescape(done.stdout.partition('<pre id="out">')[2].partition("</pre>")[0]))
    assert "error" not in found, found
    return found
