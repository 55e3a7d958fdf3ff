"""The host runs prompts as ComfyUI does: checked, in order, nothing twice, stopped when asked, errors on their node."""

import copy
import json
import threading
import time
from pathlib import Path

import pytest

from host.executor import Run
from host.runtime import interrupt
from host.studio import open_host, run_file
from host.validation import PromptError, validate_prompt

PACK = Path(__file__).parent / "host_pack"
SUM = {
    "1": {"class_type": "Test_Number", "inputs": {"value": 4, "kind": "plain", "seed": 0}},
    "2": {"class_type": "Test_Number", "inputs": {"value": 3, "kind": "negative", "seed": 0}},
    "3": {"class_type": "Test_Add", "inputs": {"a": ["1", 0], "b": ["2", 0]}},
    "4": {"class_type": "Test_Show", "inputs": {"value": ["3", 0]}},
}


@pytest.fixture
def host(tmp_path):
    server, pack = open_host(tmp_path, PACK)
    pack.module.calls.clear()
    pack.module.release.clear()
    return server, pack


def execute(host, prompt):
    """(the run, its messages as they would go to the canvas)."""
    server, pack = host
    prompt = copy.deepcopy(prompt)
    targets, _ = validate_prompt(prompt, pack.nodes)
    sent = []
    run = Run("p", prompt, {}, lambda event, data: sent.append((event, json.loads(json.dumps(data)))))
    server.executor.execute(run, targets)
    return run, sent


def changed(prompt, node, **inputs):
    prompt = copy.deepcopy(prompt)
    prompt[node]["inputs"] |= inputs
    return prompt


def test_nodes_run_in_order_and_tell_the_canvas(host):
    run, sent = execute(host, SUM)
    assert run.success
    assert host[1].module.calls == ["Number", "Number", "Add", "Show"]
    assert run.outputs == {"4": {"text": ("4: 1",)}}
    events = [event for event, _ in sent]
    assert events[:2] == ["execution_start", "execution_cached"] and "execution_success" in events
    assert [data["node"] for event, data in sent if event == "executing"] == ["1", "2", "3", "4"]
    assert [data["output"] for event, data in sent if event == "executed"] == [{"text": ["4: 1"]}]


def test_only_what_changed_runs_again(host):
    calls = host[1].module.calls
    execute(host, SUM)
    calls.clear()
    run, sent = execute(host, SUM)
    assert calls == [] and run.outputs == {"4": {"text": ("4: 1",)}}
    assert dict(sent)["execution_cached"]["nodes"] == ["1", "2", "3", "4"]
    run, _ = execute(host, changed(SUM, "2", value=4))
    assert calls == ["Number", "Add", "Show"] and run.outputs["4"]["text"] == ("4: 0",)
    calls.clear()
    execute(host, SUM)  # ComfyUI, too, keeps only what the last prompt used
    assert calls == ["Number", "Add", "Show"]
    host[0].executor.forget()
    calls.clear()
    execute(host, SUM)
    assert len(calls) == 4


def test_a_fingerprint_that_is_not_a_number_always_runs(host):
    prompt = {"1": {"class_type": "Test_Slow", "inputs": {"steps": 1}}}
    host[1].module.release.set()
    for _ in range(2):
        execute(host, prompt)
    assert host[1].module.calls == ["Slow", "Slow"]


def test_a_failed_node_is_named_and_what_was_made_is_kept(host):
    prompt = SUM | {"5": {"class_type": "Test_Fails", "inputs": {"why": "no face"}}}
    run, sent = execute(host, prompt)
    assert run.success is False
    error = dict(sent)["execution_error"]
    assert (error["node_id"], error["node_type"]) == ("5", "Test_Fails")
    assert error["exception_message"].strip() == "no face" and error["exception_type"] == "ValueError"
    assert error["current_inputs"] == {"why": ["no face"]} and "raise ValueError" in "".join(error["traceback"])
    assert "execution_success" not in dict(sent)
    assert run.outputs["4"] == {"text": ("4: 1",)}


def test_a_node_class_keeps_no_state(host):
    _, sent = execute(host, {"1": {"class_type": "Test_Fails", "inputs": {"why": "state"}}})
    assert "keeps no state" in dict(sent)["execution_error"]["exception_message"]


def test_interrupt_stops_at_the_next_progress(host):
    timer = threading.Timer(0.2, interrupt)
    timer.start()
    start = time.monotonic()
    run, sent = execute(host, {"1": {"class_type": "Test_Slow", "inputs": {"steps": 1000}}})
    assert time.monotonic() - start < 5
    assert run.success is False and dict(sent)["execution_interrupted"]["node_id"] == "1"
    assert host[1].module.calls == []
    host[1].module.release.set()
    run, _ = execute(host, {"1": {"class_type": "Test_Slow", "inputs": {"steps": 2}}})
    assert run.success, "a wish to stop must not outlive its run"


def test_progress_reaches_the_canvas(host):
    host[1].module.release.set()
    _, sent = execute(host, {"1": {"class_type": "Test_Slow", "inputs": {"steps": 3}}})
    states = [data["nodes"]["1"] for event, data in sent if event == "progress_state"]
    assert [(s["state"], s["value"], s["max"]) for s in states] == [
        ("running", 0, 1),
        ("running", 1, 3),
        ("running", 2, 3),
        ("running", 3, 3),
        ("finished", 3, 3),
    ]


@pytest.mark.parametrize(
    ("node", "inputs", "kind"),
    [
        ("1", {"value": 11}, "value_bigger_than_max"),
        ("1", {"value": -1}, "value_smaller_than_min"),
        ("1", {"value": "many"}, "invalid_input_type"),
        ("1", {"kind": "odd"}, "value_not_in_list"),
        ("3", {"a": ["1", 3]}, "bad_linked_input"),
        ("3", {"a": ["9", 0]}, "bad_linked_input"),
        ("3", {"a": ["1", 0, 0]}, "bad_linked_input"),
        ("3", {"a": ["3", 0]}, "dependency_cycle"),
        ("4", {"value": ["5", 0]}, "return_type_mismatch"),
    ],
)
def test_wrong_inputs_are_refused_on_their_node(host, node, inputs, kind):
    prompt = SUM | {"5": {"class_type": "LoadAudio", "inputs": {"audio": "none.wav"}}}
    with pytest.raises(PromptError) as refused:
        validate_prompt(changed(prompt, node, **inputs), host[1].nodes)
    assert refused.value.error["type"] == "prompt_outputs_failed_validation"
    errors = refused.value.node_errors[node]
    assert [e["type"] for e in errors["errors"]] == [kind]
    assert errors["class_type"] == prompt[node]["class_type"] and errors["dependent_outputs"] == ["4"]
    assert errors["errors"][0]["extra_info"]["input_name"] in inputs


def test_a_missing_input_an_unknown_node_and_no_output_are_refused(host):
    nodes = host[1].nodes
    missing = copy.deepcopy(SUM)
    del missing["3"]["inputs"]["a"]
    with pytest.raises(PromptError) as refused:
        validate_prompt(missing, nodes)
    assert refused.value.node_errors["3"]["errors"][0]["type"] == "required_input_missing"
    with pytest.raises(PromptError, match="node Unheard does not exist"):
        validate_prompt({"1": {"class_type": "Unheard", "inputs": {}}}, nodes)
    with pytest.raises(PromptError, match="no outputs"):
        validate_prompt({"1": SUM["1"]}, nodes)
    with pytest.raises(PromptError, match="class_type"):
        validate_prompt({"1": {}}, nodes)


def test_a_node_checks_its_own_inputs_and_good_outputs_still_run(host):
    prompt = SUM | {"5": {"class_type": "Test_Fails", "inputs": {"why": "invalid"}}}
    good, errors = validate_prompt(copy.deepcopy(prompt), host[1].nodes)
    assert good == ["4"]
    assert errors["5"]["errors"][0]["details"] == "why - why must have a reason"


def test_only_chosen_outputs_run(host):
    prompt = SUM | {"5": {"class_type": "Test_Show", "inputs": {"value": ["1", 0]}}}
    good, _ = validate_prompt(prompt, host[1].nodes, ["5"])
    assert good == ["5"]


def test_a_file_runs_from_the_command_line(tmp_path):
    file = tmp_path / "sum.json"
    file.write_text(json.dumps(SUM))
    assert run_file(tmp_path, file, ["1.value=9"], PACK) == {"4": {"text": ("4: 6",)}}
    with pytest.raises(ValueError, match="NODE.NAME=VALUE"):
        run_file(tmp_path, file, ["9.value=9"], PACK)
    file.write_text(json.dumps({"1": {"class_type": "Test_Fails", "inputs": {"why": "no face"}}}))
    with pytest.raises(ValueError, match=r"Node 1 \(Test_Fails\) failed: no face"):
        run_file(tmp_path, file, [], PACK)
