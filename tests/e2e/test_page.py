"""The page around the canvas: nothing that a user opens asks this server for something it does not have."""

TABS = ("Assets", "Node Library", "Model Library", "Workflows")


def test_side_panels_open_without_errors(canvas):
    for tab in TABS:
        canvas.page.locator(f'.side-bar-button[aria-label^="{tab}"]').click()
        canvas.page.wait_for_timeout(700)
        canvas.screenshot(f"panel-{tab.split()[0].lower()}")
        assert canvas.unexpected_errors() == [], tab


def test_settings_and_job_list_open_without_errors(canvas):
    canvas.page.get_by_role("button", name="Settings").first.click()
    canvas.page.get_by_role("dialog").first.wait_for()
    canvas.page.wait_for_timeout(500)
    canvas.page.keyboard.press("Escape")
    canvas.page.get_by_text("0 active").click()
    canvas.page.wait_for_timeout(500)
    canvas.screenshot("jobs")
    assert canvas.unexpected_errors() == []


def test_a_fresh_browser_is_offered_templates_and_a_reloaded_page_its_workflow(canvas, server):
    assert canvas.page.evaluate("app.graph.nodes.length") == 0
    note = {
        "id": 1,
        "type": "Note",
        "pos": [100, 100],
        "size": [200, 100],
        "widgets_values": ["kept"],
        "properties": {},
    }
    canvas.load_workflow({"version": 0.4, "last_node_id": 1, "last_link_id": 0, "nodes": [note], "links": []})
    canvas.page.wait_for_timeout(1500)  # the page saves its draft with a delay
    canvas.page.reload()
    canvas.wait_until_ready()
    canvas.page.wait_for_function("app.graph.nodes.length === 1 && app.graph.nodes[0].type === 'Note'")
    assert not canvas.page.get_by_role("dialog").first.is_visible()
