"""A real browser over a real JupyterLab, or over the standalone page: plain functions, used by test_browser.py.

    with jupyterlab(folder) as lab, chromium() as browser, notebook(browser, lab, "nbs/workshop/explorer.ipynb") as page:
        picture, seed = page.locator("img.pmsgan-output"), labeled(page, "seed")
        with changing(picture): press(seed, "ArrowRight")

What fails a test by itself, at the end of `notebook` and `watched` and wherever `check` is called: a traceback or a line on
stderr from the kernel (in a cell, in a widget's callback, in a thread), an error on the page or its console, a lost
connection, a request to another machine."""
import base64
import io
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

ENV = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "IPYTHON"))} | {"OMP_NUM_THREADS": "1"}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", # a container's /dev/shm is small
         "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", # a webcam that shows a test picture
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"] # nothing leaves this machine
LOCAL = re.compile(r"(https?|wss?)://(127\.0\.0\.1|localhost)[:/]|(data|blob|about):")
# JupyterLab asks a new kernel for the widgets that it still has, before a cell has imported ipywidgets; nobody sees the answer
HARMLESS = re.compile(r"No such comm( target registered)?: (jupyter\.widget\.control|[0-9a-f-]{36})\s*$")
ERRORS = '[data-mime-type="application/vnd.jupyter.stderr"], [data-mime-type="application/vnd.jupyter.error"]'

def until(true, seconds=20, what="nothing came", every=.05):
    "What `true()` gives, as soon as that is true (it should ask the page something: that lets the page's events in)"
    end = time.monotonic()+seconds
    while not (found := true()):
        assert time.monotonic() < end, f"{what} within {seconds} s"
        time.sleep(every)
    return found

# servers

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]

def answers(port):
    try: return socket.create_connection(("127.0.0.1", port), 1).close() is None
    except OSError: return False

@contextmanager
def serving(words, port, folder, seconds=60):
    "The server that `words` start, in a process group of its own and with Jupyter's files in `folder`; stopped in the end, with its kernels"
    env = ENV | {v: str(folder/v.lower()) for v in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR",
                                                    "IPYTHONDIR")}
    with_us = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else [] # even when we are killed (Linux)
    log = folder/"server.log"
    with open(log, "w") as out:
        server = subprocess.Popen([*with_us, *map(str, words)], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                  env=env, start_new_session=True)
    try:
        until(lambda: answers(port) or server.poll() is not None, seconds, f"{words} did not answer")
        assert server.poll() is None, f"{words} ended: {log.read_text()[-3000:]}"
        yield
    finally:
        # at the first it shuts its kernels down; a kernel without a parent ends by itself
        for sig in (signal.SIGTERM, signal.SIGKILL):
            try: os.killpg(server.pid, sig)
            except ProcessLookupError: break
            try: server.wait(15)
            except subprocess.TimeoutExpired: pass

@contextmanager
def jupyterlab(folder):
    "JupyterLab that shows `folder`; its url, token and folder"
    folder = Path(folder)
    port, token, private = free_port(), secrets.token_hex(16), folder.with_name(folder.name+"-jupyter")
    private.mkdir()
    words = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
             "--ServerApp.port_retries=0",
             f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}",
             "--LabApp.expose_app_in_browser=True",
             "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url="]
    with serving(words, port, private):
        yield SimpleNamespace(url=f"http://127.0.0.1:{port}", token=token, folder=folder)

def kernels(lab, method="GET", path=""):
    "The ids of the kernels that run, or another request about them"
    request = urllib.request.Request(f"{lab.url}/api/kernels{path}", method=method,
                                     headers={"Authorization": f"token {lab.token}"})
    answer = urllib.request.urlopen(request, timeout=20).read()
    return {k["id"] for k in json.loads(answer)} if method == "GET" else None

@contextmanager
def standalone(words, folder):
    "The address of the page that a command serves: `words` (such as pmsgan explore), to which a port and --no-browser are added"
    port = free_port()
    with serving([*words, f"--port={port}", "--no-browser"], port, folder): yield f"http://127.0.0.1:{port}/"

# the browser and its pages

def chromium_path():
    "The browser to use, or None"
    if given := os.environ.get("PMSGAN_CHROMIUM"): return given
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name): return path
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        return p.chromium.executable_path if os.path.exists(p.chromium.executable_path) else None

@contextmanager
def chromium(path=None, width=1280, height=1000):
    "One browser, in which pages are opened"
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=path or chromium_path(), args=FLAGS)
        allowed = ["clipboard-read", "clipboard-write", "camera"]
        context = browser.new_context(viewport={"width": width, "height": height}, permissions=allowed)
        context.set_default_timeout(15_000)
        context.set_default_navigation_timeout(90_000) # the standalone page comes after its cells have run
        try: yield context
        finally: browser.close()

def said(frame):
    "What a kernel's message says that should not be there (a frame of the protocol v1.kernel.websocket.jupyter.org)"
    if isinstance(frame, str): return # events of the server, not of a kernel
    # ends of: the table, channel, header, parent, metadata, content
    at = [int.from_bytes(frame[i:i+8], "little") for i in range(8, 56, 8)]
    kind, content = (json.loads(frame[at[i]:at[i+1]]) for i in (1, 4))
    if kind["msg_type"] == "error":
        return re.sub(r"\x1b\[[\d;]*m", "", "\n".join(content["traceback"])) or content["ename"]
    if kind["msg_type"] == "stream" and content["name"] == "stderr" and not HARMLESS.match(content["text"]):
        return f"stderr: {content['text']}"
    if kind["msg_type"] == "status" and content["execution_state"] in ("restarting", "autorestarting", "dead"):
        return "the kernel died"

def watch(page):
    "Collects in `page.problems` what should fail a test"
    page.problems = problems = []
    note = lambda text: problems.append(text) if text else None
    def on_socket(ws):
        note(None if LOCAL.match(ws.url) else f"a connection to {ws.url}")
        ws.on("framereceived", lambda frame: note(said(frame)))
        ws.on("close", lambda _: note(f"the connection to {ws.url.partition('?')[0]} was lost"))
    page.on("websocket", on_socket)
    page.on("request", lambda r: note(None if LOCAL.match(r.url) else f"a request to {r.url}"))
    page.on("pageerror", lambda e: note(f"error on the page: {e}"))
    page.on("console", lambda m: note(f"console: {m.text} ({m.location.get('url')})" if m.type == "error" else None))
    page.on("crash", lambda _: note("the page crashed"))

def check(page):
    "Fails when the kernel, the page or the network did what it should not"
    shown = [text for text in page.locator(ERRORS).all_text_contents()
             if not any(text.strip()[-200:] in p for p in page.problems)]
    assert not page.problems+shown, "\n".join(page.problems+shown)[-6000:]

@contextmanager
def watched(context, url):
    "A page; checked and closed in the end"
    page = context.new_page()
    watch(page)
    try:
        page.goto(url)
        yield page
        check(page)
    except BaseException:
        print(*page.problems, sep="\n") # the deeper reason, perhaps; pytest shows it
        raise
    finally: page.close()

@contextmanager
def notebook(context, lab, path, seconds=90):
    "A notebook in JupyterLab, after all of its cells have run"
    panel = "window.jupyterapp?.shell.currentWidget?.sessionContext"
    others = kernels(lab) # of notebooks that stay open
    try:
        with watched(context, f"{lab.url}/lab/tree/{path}?token={lab.token}&reset") as page:
            page.wait_for_function(f"{panel}?.isReady && {panel}.session?.kernel?.status == 'idle'", timeout=60_000)
            run_all = "jupyterapp.commands.execute('notebook:run-all-cells')"
            page.evaluate("() => { "+run_all+".finally(() => { window.ran = true }) }")
            page.wait_for_function(f"window.ran && {panel}.session.kernel.status == 'idle'", timeout=seconds*1000)
            # JupyterLab 4.4 makes and drops some at first
            page.problems[:] = [p for p in page.problems if not p.endswith("was lost")]
            check(page)
            yield page
    finally:
        for k in kernels(lab)-others: kernels(lab, "DELETE", f"/{k}")

# what a person does

def labeled(scope, label):
    "The control with this visible label or aria-label, in a page or a locator: a slider's handle, a field, a menu, a button"
    # ipywidgets: the label, and the control beside it
    row = scope.locator(f".jupyter-widgets:has(> label:text-is({json.dumps(label)}))")
    return (row.locator("[role=slider], select, textarea, input").or_(scope.get_by_label(label, exact=True))
            .or_(scope.get_by_role("button", name=label, exact=True)))

def press(handle, key, times=1):
    handle.focus()
    for _ in range(times): handle.press(key)

def drag(handle, dx, dy=0):
    "Takes the middle of `handle` and moves it by some pixels"
    handle.scroll_into_view_if_needed()
    box, mouse = handle.bounding_box(), handle.page.mouse
    x, y = box["x"]+box["width"]/2, box["y"]+box["height"]/2
    mouse.move(x, y)
    mouse.down()
    mouse.move(x+dx, y+dy, steps=5)
    mouse.up()

def reads(locator, what): return what(locator) if callable(what) else locator.get_attribute(what)

@contextmanager
def changing(locator, what="src", seconds=10):
    "Waits at the block's end until an attribute (or what a function reads from the locator) has changed; gives .before, .after and .seconds"
    seen, start = SimpleNamespace(before=reads(locator, what)), time.perf_counter()
    yield seen
    until(lambda: reads(locator, what) != seen.before, seconds, f"{what} of {locator} did not change", .01)
    seen.after, seen.seconds = reads(locator, what), time.perf_counter()-start

def settled(locator, what="src", quiet=.4, seconds=10):
    "Waits until nothing has changed for a while, as after a drag that makes several pictures; the last value"
    last, since = reads(locator, what), time.monotonic()
    while (now := time.monotonic())-since < quiet:
        assert (seconds := seconds-.05) > 0, f"{what} of {locator} did not settle"
        time.sleep(.05)
        if (value := reads(locator, what)) != last: last, since = value, now
    return last

def screenshot_array(locator):
    "What is seen there: uint8 H×W×3"
    return np.asarray(Image.open(io.BytesIO(locator.screenshot(animations="disabled"))).convert("RGB"))

BYTES = "const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));"

def drop_file(locator, name, data, mime):
    "Drops a file of these bytes on an element"
    transfer = locator.page.evaluate_handle("([name, data, mime]) => {"+BYTES+"""
        const t = new DataTransfer(); t.items.add(new File([bytes], name, {type: mime})); return t }""", [name, base64.b64encode(data).decode(), mime])
    for event in ("dragenter", "dragover", "drop"): locator.dispatch_event(event, {"dataTransfer": transfer})

def paste(locator, data, mime="image/png"):
    "Puts bytes on the clipboard and presses Ctrl+V in an element that can have the focus"
    write = "return navigator.clipboard.write([new ClipboardItem({[mime]: new Blob([bytes], {type: mime})})])"
    locator.page.evaluate("([data, mime]) => {"+BYTES+write+" }",
                          [base64.b64encode(data).decode(), mime])
    press(locator, "Control+v")
