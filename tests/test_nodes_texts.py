"""What the pack says about itself: help pages, languages, and what a release carries."""

import json
import re
from pathlib import Path

import pytest

from host.studio import open_host
from scripts.make_locales import node_texts

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return open_host(tmp_path_factory.mktemp("host"))[1]


@pytest.fixture(scope="module")
def texts(pack):
    return node_texts(pack)


def locale(language, name):
    return json.loads((ROOT / "locales" / language / f"{name}.json").read_text(encoding="utf-8"))


def test_the_english_texts_are_the_schemas(texts):
    assert locale("en", "nodeDefs") == texts, "run python -m scripts.make_locales"


def test_the_chinese_texts_cover_every_node(texts):
    chinese = locale("zh", "nodeDefs")
    assert chinese.keys() == texts.keys()
    for node_id, english in texts.items():
        translated = chinese[node_id]
        for part in ("inputs", "outputs"):
            assert translated.get(part, {}).keys() == english.get(part, {}).keys(), node_id
        for entry in [*translated["inputs"].values(), *translated.get("outputs", {}).values()]:
            assert re.search("[\u4e00-\u9fff]", entry["name"] + entry["tooltip"])


def test_translated_choices_exist(pack):
    for node_id, texts in locale("zh", "nodeDefs").items():
        inputs = str(pack.info(node_id)["input"])
        for entry in texts["inputs"].values():
            for choice in entry.get("options", {}):
                assert repr(choice) in inputs, f"{node_id}: {choice}"


def test_sockets_have_names_in_every_language(pack):
    types = set(re.findall(r"LLIA_[A-Z]+\b", json.dumps([pack.info(node) for node in pack.nodes]))) - set(pack.nodes)
    for language in ("en", "zh"):
        assert locale(language, "main")["dataTypes"].keys() == types


def test_every_node_has_a_help_page_that_names_its_inputs_and_outputs(texts):
    assert {file.stem for file in (ROOT / "web" / "docs").glob("*.md")} == set(texts)
    for node_id, node in texts.items():
        page = (ROOT / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {node['display_name']}\n")
        for name in [*node["inputs"], *(output["name"] for output in node.get("outputs", {}).values())]:
            assert f"`{name}`" in page, f"{node_id} does not explain {name}"


def test_a_release_carries_what_comfyui_reads():
    ignored = (ROOT / ".comfyignore").read_text().split()
    for needed in ("__init__.py", "nodes", "llia_core", "web", "workflows", "locales", "requirements.txt"):
        assert (ROOT / needed).exists() and not {needed, f"{needed}/"} & set(ignored)
    project = (ROOT / "pyproject.toml").read_text()
    assert '\nname = "llia"\n' in project and '\nDisplayName = "LLIA"\n' in project


def test_requirements_leave_comfyuis_own_packages_alone():
    names = [re.split("[<>=!~ ]", line)[0].lower() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    assert not {"torch", "torchvision", "numpy", "pillow"} & set(names)
