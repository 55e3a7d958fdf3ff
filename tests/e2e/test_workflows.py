"""Each example workflow, as a new user meets it: found in the template browser, complete, run to its end."""

import json
from pathlib import Path

import pytest

from .canvas import Canvas

WORKFLOWS = Path(__file__).parents[2] / "workflows"
PHOTOREAL = "photoreal_portrait"  # needs weights that are not part of the pack: no run here
NAMES = sorted(file.stem for file in WORKFLOWS.glob("*.json") if file.stem != PHOTOREAL)


def api_prompt(name: str) -> dict:
    """The same workflow as workflows/api has it, without titles."""
    prompt = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text(encoding="utf-8"))
    return {i: {"class_type": n["class_type"], "inputs": n["inputs"]} for i, n in prompt.items()}


@pytest.mark.parametrize("name", NAMES)
def test_workflow_is_found_complete_and_runs(canvas, name):
    canvas.load_template(name)
    assert canvas.missing_nodes() == []
    canvas.page.wait_for_timeout(1000)  # for the picture: widgets come in after the nodes
    canvas.screenshot(f"{name}-loaded")
    prompt = canvas.prompt()
    assert prompt == api_prompt(name), "workflows/ and workflows/api/ differ"
    outputs = canvas.run(seconds=300)
    canvas.page.wait_for_timeout(1000)
    canvas.screenshot(f"{name}-done")
    info = canvas.request("object_info")
    results = {i for i, node in prompt.items() if info[node["class_type"]]["output_node"]}
    assert results and results >= outputs.keys()
    for files in (node["images"] for node in outputs.values() if "images" in node):
        for file in files:
            assert len(canvas.file(file)) > 1000, file


def test_the_photoreal_workflow_is_complete_and_says_what_it_lacks(canvas):
    canvas.expected_errors.append("400: POST .*/prompt|Prompt outputs failed validation|PromptExecutionError")
    canvas.load_template(PHOTOREAL)
    assert canvas.missing_nodes() == []
    assert canvas.prompt() == api_prompt(PHOTOREAL), "workflows/ and workflows/api/ differ"
    canvas.page.wait_for_timeout(1000)
    canvas.screenshot("photoreal-loaded")
    canvas.close_dialog()  # the page offers the missing model by itself
    with canvas.page.expect_response(lambda r: r.url.endswith("/prompt") and r.request.method == "POST") as answer:
        canvas.page.get_by_test_id("queue-button").click()
    (errors,) = answer.value.json()["node_errors"].values()
    assert errors["class_type"] == "LLIA_LoadModel" and errors["errors"][0]["type"] == "value_not_in_list"


def test_the_template_browser_shows_a_picture_of_each(canvas):
    canvas.page.locator(".templates-tab-button").click()
    for name in (*NAMES, PHOTOREAL):
        picture = canvas.page.get_by_test_id(f"template-workflow-{name}").locator("img").first
        picture.wait_for()
        assert canvas.page.wait_for_function("image => image.naturalWidth > 0", arg=picture.element_handle())
    canvas.screenshot("templates")


def talking_portrait(canvas: Canvas) -> None:
    canvas.load_template("talking_portrait")
    canvas.page.wait_for_timeout(500)


def test_a_refused_prompt_is_shown_on_its_node(canvas):
    canvas.expected_errors.append("400: POST .*/prompt|Prompt outputs failed validation|PromptExecutionError")
    talking_portrait(canvas)
    canvas.set_widget("LLIA_Sample", "steps", 99)
    with canvas.page.expect_response(lambda r: r.url.endswith("/prompt") and r.request.method == "POST") as answer:
        canvas.page.get_by_test_id("queue-button").click()
    assert answer.value.status == 400
    errors = list(answer.value.json()["node_errors"].values())
    assert errors[0]["class_type"] == "LLIA_Sample" and errors[0]["errors"][0]["type"] == "value_bigger_than_max"
    canvas.page.wait_for_function("app.graph.nodes.find(n => n.type === 'LLIA_Sample').has_errors === true")
    canvas.screenshot("refused")


def test_a_failed_node_says_why_on_the_page(canvas):
    why = "20 steps asked for, but llia-tiny makes 1 to 8"
    canvas.expected_errors.append(why)
    talking_portrait(canvas)
    canvas.set_widget("LLIA_Sample", "steps", 20)  # only a run knows that this model cannot
    entry = canvas.wait_for_end(canvas.queue())
    name, error = entry["status"]["messages"][-1]
    assert name == "execution_error" and error["node_type"] == "LLIA_Sample" and why in error["exception_message"]
    canvas.page.get_by_text("LLIA Sample", exact=False).first.wait_for()
    canvas.screenshot("failed")


def test_running_again_runs_only_what_changed(canvas):
    talking_portrait(canvas)
    canvas.run(seconds=300)
    canvas.set_widget("LLIA_Sample", "behaviour", 0.5)
    entry = canvas.wait_for_end(canvas.queue(), seconds=300)
    kept = {canvas.type_of(node) for node in dict(entry["status"]["messages"])["execution_cached"]["nodes"]}
    assert {"LLIA_LoadModel", "LLIA_Portrait", "LLIA_EncodeAudio"} <= kept
    assert not kept & {"LLIA_Sample", "LLIA_StreamingPreview"}
