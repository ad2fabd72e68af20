"""Whoever is new finds a behaviour by the line of its folder, then by the first lines of its modules."""

import ast
from pathlib import Path

HERE = Path(__file__).parents[1]
WHERE = HERE.joinpath("CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Proof")[0]
MODULES = [each for top in ("cars_rt", "drivers", "engines") for each in HERE.joinpath(top).rglob("*.py")]


def test_every_folder_is_named_where_contributors_look() -> None:
    folders = {each.parent.name for each in MODULES}
    assert not {name for name in folders if f"{name}/" not in WHERE}


def test_first_line_of_every_module_is_a_whole_sentence() -> None:
    said = {path: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for path in MODULES}
    cut = [str(path) for path, text in said.items() if not text or text.splitlines()[0][-1] not in ".:?"]
    assert not cut
