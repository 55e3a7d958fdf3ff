"""Writes locales/en/nodeDefs.json, the texts that translations start from: python -m scripts.make_locales"""

import json
import sys
import tempfile
from pathlib import Path

from host.pack import Pack
from host.studio import open_host

FILE = Path(__file__).parent.parent / "locales" / "en" / "nodeDefs.json"


def main() -> int:
    with tempfile.TemporaryDirectory() as base:
        texts = node_texts(open_host(Path(base))[1])
    FILE.write_text(json.dumps(texts, indent=2) + "\n", encoding="utf-8")
    return 0


def node_texts(pack: Pack) -> dict:
    """{node id: all that the canvas shows of it}, in the form of a nodeDefs.json."""
    texts = {}
    for node_id in (name for name in pack.nodes if name.startswith("LLIA_")):
        info = pack.info(node_id)
        inputs = {**info["input"]["required"], **info["input"].get("optional", {})}
        outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
        texts[node_id] = {
            "display_name": info["display_name"],
            "description": info["description"],
            "inputs": {name: {"name": name, "tooltip": options["tooltip"]} for name, (_, options) in inputs.items()},
            "outputs": {str(index): {"name": name, "tooltip": text} for index, (name, text) in enumerate(outputs)},
        }
        if not texts[node_id]["outputs"]:
            del texts[node_id]["outputs"]
    return texts


if __name__ == "__main__":
    sys.exit(main())
