#!/usr/bin/env python3
"""Run the commands of the guide: every block of docs/ that begins with ```sh run.

    cargo build --release
    scripts/run_pages.py [--programs DIR] [--keep DIR] [PAGE]...

The pages run in the order of docs/SUMMARY.md, in one temporary folder (--keep names one that stays), since a later page uses
what an earlier one made. Each block is a script of bash that ends at the first error. Only the standard library is needed.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def pages():
    """The chapters, in their order."""
    return re.findall(r"\]\(([^)]+\.md)\)", (DOCS / "SUMMARY.md").read_text())


def blocks(page):
    """Line number and text of each block that is to be run."""
    text = (DOCS / page).read_text()
    for block in re.finditer(r"^```sh run\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, block.start(1)) + 1, block.group(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--programs", type=pathlib.Path, default=ROOT / "target/release", help="where run_mlm and the others lie")
    parser.add_argument("--keep", type=pathlib.Path, help="run here, and leave what was made")
    parser.add_argument("pages", nargs="*", help="pages below docs/; all of them without")
    arguments = parser.parse_args()
    began, count = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("samples", "configs"):
            if not (folder / name).exists():
                (folder / name).symlink_to(ROOT / name)
        path = f"{arguments.programs.resolve()}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "XDG_CACHE_HOME": str(folder / "cache")}
        for page in arguments.pages or pages():
            for line, text in blocks(page):
                print(f"\n=== docs/{page}:{line}", flush=True)
                done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=environment, stdin=subprocess.DEVNULL)
                if done.returncode != 0:
                    sys.exit(f"docs/{page}:{line}: ended with code {done.returncode}")
                count += 1
    if not count:
        sys.exit("no block to run: expected some that begin with ```sh run")
    print(f"\n{count} blocks in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
