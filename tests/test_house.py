"""The rules of the house, read from the source: they hold for every file, with no exceptions."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = sorted((ROOT / "llia_core").rglob("*.py"))
ROOMS = ("llia_core", "nodes", "host", "scripts", "tests")
FILES = [ROOT / "__init__.py"] * (ROOT / "__init__.py").exists() + [
    path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))
]
FORBIDDEN_IN_CORE = {
    "comfy",
    "comfy_api",
    "comfy_extras",
    "folder_paths",
    "aiohttp",
    "nodes",
    "host",
    "llia_core",
    "server",
}
HEAVY = {"transformers", "mediapipe", "av", "torchaudio", "torchvision", "diffusers", "torchao", "openvino", "cv2"}
FILE_LINES, ARCHITECTURE_LINES, FUNCTION_LINES = 300, 500, 40


def relative(path):
    return path.relative_to(ROOT).as_posix()


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(node):
    """Top names of the modules that an import statement brings; none for relative imports."""
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return {(node.module or "").split(".")[0]}
    return set()


def at_import(tree):
    """Statements that run when the file is imported: everything outside functions."""
    todo = list(tree.body)
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            todo += ast.iter_child_nodes(node)


def body_lines(function):
    """Lines of a function from the first to the last statement, without its docstring."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_there_is_something_to_check():
    assert len(CORE) > 10 and Path(__file__) in FILES


@pytest.mark.parametrize("path", CORE, ids=relative)
def test_core_knows_neither_comfyui_nor_the_host(path):
    names = set().union(*(imported(node) for node in ast.walk(tree_of(path))))
    assert not names & FORBIDDEN_IN_CORE, "llia_core imports itself relatively, and nothing of ComfyUI or the host"
    assert not {name for name in names if name.startswith("comfy")}


@pytest.mark.parametrize("path", CORE, ids=relative)
def test_heavy_packages_are_imported_late(path):
    names = set().union(*(imported(node) for node in at_import(tree_of(path))))
    assert not names & HEAVY, "import it inside the function that needs it"


@pytest.mark.parametrize("path", CORE, ids=relative)
def test_nothing_happens_at_import(path):
    """At the top of a file stand definitions and constants; no call whose result is thrown away."""
    for node in tree_of(path).body:
        if path.name == "__main__.py" and isinstance(node, ast.If):
            continue  # if __name__ == "__main__"
        harmless = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)  # docstring
        assert harmless or not isinstance(node, (ast.Expr, ast.For, ast.While, ast.With)), f"line {node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_and_functions_are_short(path):
    limit = ARCHITECTURE_LINES if path.parent == ROOT / "llia_core" / "model" else FILE_LINES
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines < limit, f"{lines} lines, fewer than {limit} expected"
    functions = [node for node in ast.walk(tree_of(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    long = {node.name: body_lines(node) for node in functions if body_lines(node) >= FUNCTION_LINES}
    assert not long, f"fewer than {FUNCTION_LINES} lines expected"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_source_is_ascii(path):
    data = path.read_bytes()
    bad = next((index for index, byte in enumerate(data) if byte > 127), None)
    assert bad is None, f"line {data[:bad].count(10) + 1}: write it as an escape"


def test_the_checks_can_fail():
    tree = ast.parse("import os\nif os:\n    import av\ndef f():\n    import mediapipe\n")
    assert set().union(*(imported(node) for node in at_import(tree))) == {"os", "av"}
    assert imported(ast.parse("from .nodes import x").body[0]) == set()
    assert imported(ast.parse("from comfy.utils import x").body[0]) == {"comfy"}
    assert body_lines(ast.parse("def f():\n    'doc'\n    a = 1\n\n    return a").body[0]) == 3
