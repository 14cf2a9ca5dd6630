"""A pull step of the project's own."""

import os
from pathlib import Path


def prepared(word: str) -> dict:
    os.environ["PREPARED"] = word
    print("the step prints", word)
    return {"word": word, "directory": str(Path.cwd())}
