"""The static page: a folder of files for any web host, which restores pictures in the browser, without a server."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterable
from importlib.resources import files as resources
from pathlib import Path

import onnx
import onnxruntime

from .. import __version__, decoder, files, weights
from ..codec import dct
from ..codec.quality import STANDARD
from ..restoration.tiling import ALIGNMENT
from ..weights import Preset
from . import graph
from .runtime import runtime_files

# Files shared with the server's page, and files of the static page only.
_SHARED = ("main.js", "viewer.js", "style.css", "icon.svg", "parrots.jpg", "lighthouse.jpg", "buildings.jpg")
_OWN = ("api.js", "worker.js", "picture.js", "jpeg.js", "metadata.js", "facts.js", "upright.js", "encode.js", "zip.js")
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'"
)
_MANIFEST = {
    "name": "redecode",
    "short_name": "redecode",
    "description": "Decode a JPEG again, better.",
    "start_url": "./",
    "scope": "./",
    "display": "standalone",
    "icons": [{"src": "page/icon.svg", "type": "image/svg+xml", "sizes": "any"}],
}
# Rows and columns of pixels of the largest MCUs that the page restores.
_LARGEST_UNIT = (4 * dct.BLOCK, 4 * dct.BLOCK)


def write(folder: Path, runtime: Path | None = None, presets: Iterable[Preset] = tuple(weights.PRESETS), overwrite: bool = False) -> None:
    """Write the page into a folder.

    Args:
        folder: a new or empty folder.
        runtime: the npm package of ONNX Runtime Web as a file, see :func:`redecode.portable.runtime.runtime_files`.
        presets: presets that the page offers.
        overwrite: whether to accept a folder that is not empty, and to replace files with the same names.

    Raises:
        OutputExistsError: the folder is not empty.
        DependencyError: ONNX Runtime Web cannot be fetched, or networks are missing.
        OSError: a file cannot be read or written.
    """
    if not overwrite and (not folder.is_dir() or any(folder.iterdir())):
        files.refuse_existing(folder)
    made = page_files(runtime, tuple(presets))
    # Write index.html last, so that an incomplete page cannot be opened.
    for name in sorted(made, key=lambda name: name == "index.html"):
        files.save(made[name], folder / name, overwrite=overwrite)


def page_files(runtime: Path | None, presets: tuple[Preset, ...]) -> dict[str, bytes]:
    """Content of all files of the page by name; for arguments and errors see :func:`write`."""
    found = {f"page/ort/{name}": data for name, data in runtime_files(runtime).items()}
    shared, own = resources("redecode.server") / "page", resources(__package__) / "page"
    found |= {f"page/{name}": (shared / name).read_bytes() for name in _SHARED}
    found |= {f"page/{name}": (own / name).read_bytes() for name in _OWN}
    found["page/models/finish.onnx"] = _optimised(graph.build("finish"))
    found |= {f"page/models/{preset}-layers.onnx": _optimised(graph.build("layers", preset)) for preset in presets}
    found["page/about.json"] = json.dumps(_about(presets)).encode()
    found["manifest.json"] = json.dumps(_MANIFEST, indent=2).encode()
    found["index.html"] = _alone((shared / "index.html").read_text(encoding="utf-8")).encode()
    return {**found, "service-worker.js": _service_worker((own / "service-worker.js").read_text(encoding="utf-8"), found, presets).encode()}


def _alone(html: str) -> str:
    """Convert the server's page into the static page: markers in it enclose lines for one of the two only."""
    html = re.sub(r" *<!-- served: -->\n.*? *<!-- end -->\n", "", html, flags=re.DOTALL)
    html = re.sub(r" *<!-- alone:\n(.*?) *-->\n", r"\1", html, flags=re.DOTALL)
    charset = '<meta charset="utf-8">'
    return html.replace(charset, f'{charset}\n  <meta http-equiv="Content-Security-Policy" content="{_POLICY}">')


def _about(presets: tuple[Preset, ...]) -> dict[str, object]:
    """Parameters of the graphs, and steps of all quality factors, for the page."""
    default = weights.DEFAULT_PRESET if weights.DEFAULT_PRESET in presets else presets[0]
    return {
        "version": __version__,
        "alignment": ALIGNMENT,
        "halo": {preset: decoder.halo(preset, _LARGEST_UNIT) for preset in presets},
        "presets": [{"name": preset, "default": preset == default} for preset in presets],
        "steps": STANDARD[:, 0].tolist(),
    }


def _service_worker(script: str, made: dict[str, bytes], presets: tuple[Preset, ...]) -> str:
    """The service worker's script with the list of files to cache; networks of further presets are cached on first use."""
    check = hashlib.sha256(script.encode())
    for name in sorted(made):
        check.update(name.encode() + made[name])
    later = [f"page/models/{preset}-layers.onnx" for preset in presets if preset != presets[0]]
    at_once = [name for name in made if name not in later and not name.endswith(".txt")]
    script = script.replace("@VERSION@", f"redecode-{check.hexdigest()[:16]}")
    return script.replace('["@FILES@"]', json.dumps(at_once)).replace('["@LATER@"]', json.dumps(later))


def _optimised(model: onnx.ModelProto) -> bytes:
    """The graph after ONNX Runtime's processor-independent optimisations: done here, they need not run in the browser."""
    with tempfile.TemporaryDirectory(prefix="redecode-") as folder:
        path = Path(folder, "model.onnx")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return path.read_bytes()
