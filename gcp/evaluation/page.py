"""A page in the browser for a trained classifier, by the package gradio: drop an image, see what the model makes of it.

Nothing leaves the machine: no tunnel, no statistics, and the page asks no other host for fonts or scripts.
"""

import logging
import os
import socket
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from gcp.command import install
from gcp.data import StreamSet
from gcp.drawing.figure import variables
from gcp.errors import DataError, GCPError
from gcp.evaluation.explanation import Explanation, draw_spectrum, explain, overlay, shown
from gcp.evaluation.unlabelled import images_in
from gcp.runs.scored_model import ScoredModel
from gcp.runs.trained import TrainedClassifier

CLASSES = 5  # shown of an image
EXAMPLES = 12
CACHE = (600, 3600)  # seconds: how often, and from which age on, files that were dropped are deleted
PORTS = 20  # tried after the usual one
USUAL = 7860

CSS = """
:root { %s } .dark { %s }
.spectrum { --paper: transparent; }
.gradio-container { max-width: 1100px !important; margin: auto !important; }
.spectrum svg { width: 100%%; max-width: 560px; height: auto; display: block; }
.spectrum p { margin: .5em 0; }
"""
NOTES = """\
**Map**: what each position adds to the class, relative to the most in this image. Click a class to see its map.
**Spectrum**: the eigenvalues of the covariance of the features that enter the head. The further they spread, the harder
the root is to differentiate.
"""


def create_page(trained: TrainedClassifier, title: str, about: str, examples: Sequence[str] = ()) -> Any:
    """The page, a `gradio.Blocks`, not yet served.

    Args:
        trained: what answers.
        title: shown above.
        about: shown in a line below the title.
        examples: paths of images to begin with.

    Raises:
        GCPError: the package is missing.
    """
    gradio = find_gradio()

    def answer(file: dict[str, Any] | None, place: int | None = None) -> list[Any]:
        """What the page shows of an image that was dropped, nothing without one."""
        if file is None:
            return [None, gradio.Image(None, label="Map"), ""]
        path = file["path"]
        try:
            found = explain(trained, path, place)
        except GCPError as error:
            text = escape(str(error).replace(path, Path(path).name))
            raise gradio.Error(text, duration=15, print_exception=False) from error
        label = f"Map of {found.explained}" if found.map is not None else "Image, as the model is given it"
        return [dict(found.probabilities), gradio.Image(overlay(found.image, found.map), label=label), told(found)]

    def of_class(file: dict[str, Any] | None, event: gradio.SelectData) -> list[Any]:  # type: ignore[name-defined]
        """The map of the class that was clicked."""
        return answer(file, trained.names.index(event.value))[1:]

    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=CACHE) as page:
        gradio.Markdown(f"# {_plain(title)}\n{_plain(about)}")
        with gradio.Row():
            with gradio.Column():
                picture = gradio.Image(sources=["upload", "clipboard"], label="Image", height=320, buttons=[])
                classes = gradio.Label(num_top_classes=CLASSES, label="Classes")
            with gradio.Column():
                seen = gradio.Image(label="Map", interactive=False, height=320, buttons=["fullscreen"])
                spectrum = gradio.HTML(label="Spectrum", elem_classes="spectrum")
        if examples:
            gradio.Examples([[path] for path in examples], picture, label="Examples", examples_per_page=EXAMPLES)
        gradio.Markdown(NOTES)
        # the file as it came: our decoder knows 16 bits, transparency and orientation, and says what is wrong
        one = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private", "preprocess": False}
        picture.change(answer, picture, [classes, seen, spectrum], show_progress_on=[classes, seen], **one)
        classes.select(of_class, picture, [seen, spectrum], show_progress_on=seen, **one)
    return page


def examples_of(model: ScoredModel, given: str | None, folder: str | Path) -> list[str]:
    """Paths of images to begin with: the first ones of a folder that is given; else test images of the model's data
    set, those that are no files written to `folder`, and none where the data set is not at hand.

    Raises:
        DataError: the folder that is given is none, or has no images.
    """
    if given is not None:
        if Path(given).is_file():
            raise DataError(f"--examples {given} is a file; give the folder of images that it lies in.")
        return images_in(given)[:EXAMPLES]
    try:
        test = model.splits().test
    except GCPError:
        return []
    if isinstance(test, StreamSet) or not len(test):
        return []
    places = sorted({number * len(test) // EXAMPLES for number in range(EXAMPLES)})
    if test.paths is not None:
        return [str(test.paths[place]) for place in places]
    from PIL import Image

    paths = [Path(folder, f"{model.config.data.name.replace('/', '-')}-{place}.png") for place in places]
    for path, image in zip(paths, test.read(places)[0], strict=True):
        Image.fromarray(shown(image)).save(path)
    return [str(path) for path in paths]


def told(found: Explanation) -> str:
    """The spectrum and the remarks as HTML."""
    parts = [f"<p>{escape(remark)}</p>" for remark in found.remarks]
    if found.spectrum is not None:
        parts = [f"<p>{escape(str(found.spectrum))}</p>", *parts]
        if found.spectrum.rank:
            parts.insert(0, draw_spectrum(found.spectrum))
    return "".join(parts)


def serve(page: Any, host: str, port: int | None) -> None:
    """Serve the page until it is interrupted, and say where. `port` None: the first free one from USUAL on.

    Raises:
        GCPError: the port or the address is not to be had.
    """
    port = free_port(host, port)
    print(f"{'page':<12}http://{f'[{host}]' if ':' in host else host}:{port}  (stop with Ctrl-C)", flush=True)
    launch(page, host, port)


def launch(page: Any, host: str, port: int, block: bool = True) -> None:
    """Serve the page, to the end where it is to `block`, else until `page.close()`."""
    gradio = find_gradio()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # gradio asks its own page whether it is there
    fonts = ["ui-sans-serif", "system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    try:
        page.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            ssr_mode=False,
            footer_links=[],
            prevent_thread_lock=not block,
            theme=gradio.themes.Base(font=fonts[0], font_mono=fonts[1], primary_hue="blue"),
            css=CSS % (variables(False), variables(True)),
        )
    except ValueError as error:  # its own page does not answer it
        raise GCPError(
            f"gradio cannot reach its own page at {host}, perhaps because of a proxy. Type NO_PROXY={host} before the "
            "command."
        ) from error


def find_gradio() -> Any:
    """The package. Raises GCPError where it is missing."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when the package is imported
    try:
        import gradio
    except ImportError as error:
        raise GCPError(f"the page needs the package gradio: {install('demo')}") from error
    return gradio


def free_port(host: str, port: int | None) -> int:
    """A port at which nobody listens; errors as of `serve`."""
    wanted = range(USUAL, USUAL + PORTS) if port is None else [port]
    reason = ""
    for each in wanted:
        try:
            family = socket.getaddrinfo(host, each, type=socket.SOCK_STREAM)[0][0]
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, each))
            return each
        except OSError as error:
            reason = error.strerror or str(error)
    ports = f"port {port}" if port is not None else f"a port from {USUAL} to {USUAL + PORTS - 1}"
    raise GCPError(f"cannot listen at {host}, {ports}: {reason}. Give another one with --port or --host.")


def _plain(text: str) -> str:
    """Text without the characters that Markdown reads."""
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]<>()#+-.!|" else letter for letter in text)
