"""Workflows saved by the canvas become the prompts that the canvas itself would send."""

import copy
import json
from pathlib import Path

import pytest

from host.studio import open_host
from host.workflow import flatten, read_prompt

PACK = Path(__file__).parent / "host_pack"
SUM = PACK / "workflows" / "sum.json"


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return open_host(tmp_path_factory.mktemp("base"), PACK)[1]


@pytest.fixture
def workflow():
    return json.loads(SUM.read_text())


def test_widget_values_get_their_names(pack):
    assert read_prompt(SUM, pack) == {
        "1": {"class_type": "Test_Number", "inputs": {"value": 4, "kind": "plain", "seed": 7}},
        "2": {"class_type": "Test_Add", "inputs": {"a": ["1", 0], "b": ["1", 0]}},
        "3": {"class_type": "Test_Show", "inputs": {"value": ["2", 0]}},
    }


def test_muted_bypassed_and_virtual_nodes(pack, workflow):
    number, add, _ = workflow["nodes"]
    add["mode"] = 4
    assert flatten(workflow, pack)["3"]["inputs"] == {"value": ["1", 0]}
    add["mode"] = 2
    assert flatten(workflow, pack)["3"]["inputs"] == {}
    add["mode"] = 0
    number["mode"] = 2
    assert flatten(workflow, pack)["2"]["inputs"] == {}
    number["mode"] = 0
    note = {"id": 8, "type": "MarkdownNote", "widgets_values": ["text"]}
    reroute = {"id": 9, "type": "Reroute", "inputs": [{"name": "", "type": "*", "link": 9}], "outputs": []}
    workflow["nodes"] += [note, reroute]
    workflow["links"] = [link for link in workflow["links"] if link[0] != 3]
    workflow["links"] += [[9, 2, 0, 9, 0, "TEST_NUMBER"], [3, 9, 0, 3, 0, "TEST_NUMBER"]]
    prompt = flatten(workflow, pack)
    assert prompt["3"]["inputs"] == {"value": ["2", 0]} and prompt.keys() == {"1", "2", "3"}


def subgraph(workflow):
    """The workflow with its Number twice inside of a subgraph, whose `value` is a widget of the subgraph's node."""
    number, add, show = workflow["nodes"]
    inner, other = copy.deepcopy(number), copy.deepcopy(number)
    inner["inputs"] = [{"name": "value", "type": "INT", "widget": {"name": "value"}, "link": 1}]
    other["id"] = 2
    definition = {
        "id": "5aa0b0a4-0000-4000-8000-000000000000",
        "inputs": [{"id": "in", "name": "value", "type": "INT"}],
        "outputs": [{"id": "a", "name": "a"}, {"id": "b", "name": "b"}],
        "nodes": [inner, other],
        "links": [
            {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 1, "target_slot": 0, "type": "INT"},
            {"id": 2, "origin_id": 1, "origin_slot": 0, "target_id": -20, "target_slot": 0, "type": "TEST_NUMBER"},
            {"id": 3, "origin_id": 2, "origin_slot": 0, "target_id": -20, "target_slot": 1, "type": "TEST_NUMBER"},
        ],
    }
    frame = {
        "id": 1,
        "type": definition["id"],
        "inputs": [{"name": "value", "type": "INT", "widget": {"name": "value"}, "link": None}],
        "widgets_values": [6],
    }
    links = [
        [1, 1, 0, 2, 0, "TEST_NUMBER"],
        [2, 1, 1, 2, 1, "TEST_NUMBER"],
        [3, 2, 0, 3, 0, "TEST_NUMBER"],
    ]
    return {"nodes": [frame, add, show], "links": links, "definitions": {"subgraphs": [definition]}}


def test_subgraphs_are_flattened_under_execution_ids(pack, workflow):
    prompt = flatten(subgraph(workflow), pack)
    assert prompt.keys() == {"1:1", "1:2", "2", "3"}
    assert prompt["2"]["inputs"] == {"a": ["1:1", 0], "b": ["1:2", 0]}
    assert prompt["1:1"]["inputs"]["value"] == 6, "the promoted widget's value counts"
    assert prompt["1:2"]["inputs"]["value"] == 4, "the inner node's own value"


def test_a_file_that_is_no_workflow_and_unknown_nodes_are_named(pack, workflow, tmp_path):
    file = tmp_path / "x.json"
    for content in ([1], {"a": 1}):
        file.write_text(json.dumps(content))
        with pytest.raises(ValueError, match="workflow"):
            read_prompt(file, pack)
    workflow["nodes"][1]["type"] = "Unheard"
    with pytest.raises(ValueError, match="Node 2 is of type Unheard"):
        flatten(workflow, pack)
