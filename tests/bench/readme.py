"""`make bench-readme ARGS=FILE`: put the figures of a run into the README, and all of them into a page beside the run.

`make test` compares the README with the run that it names, so figures cannot be written by hand.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.bench.figures import Results
from tests.bench.tables import complete, readme

ROOT = Path(__file__).parent.parent.parent
BEGIN, END = "<!-- figures of ", "<!-- end of the figures -->"
SECTION = re.compile(rf"{BEGIN}(\S+) -->\n(.*?)\n{END}", re.DOTALL)
NONE = "none"  #: stands where the file would, as long as there is no run to show


def figures_of(text: str) -> tuple[str, str]:
    """The run that a README names and what it says about it.

    Raises:
        ValueError: the marks are missing.
    """
    if not (found := SECTION.search(text)):
        raise ValueError(f"no line {BEGIN}FILE --> with {END} behind it")
    return found[1], found[2]


def fill(text: str, file: str, figures: str) -> str:
    """A README with these figures instead of those that it had."""
    figures_of(text)
    return SECTION.sub(lambda _: f"{BEGIN}{file} -->\n{figures}\n{END}", text)


def main(path: Path) -> None:
    """Write both files."""
    results = Results.load(path.read_text())
    file = path.resolve().relative_to(ROOT).as_posix()
    page = ROOT / "README.md"
    page.write_text(fill(page.read_text(), file, readme(results, file)))
    path.with_suffix(".md").write_text(complete(results))
    print(f"README.md and {file.removesuffix('.json')}.md show {file}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: make bench-readme ARGS=tests/bench/results/FILE.json")
    main(Path(sys.argv[1]))
