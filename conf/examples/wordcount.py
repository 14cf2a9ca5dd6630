"""A flow that counts the words of a text file and writes the most frequent ones to a JSON file."""

import collections
import json
import logging
import pathlib
import re

log = logging.getLogger("wordcount")


def count_words(source, result, top=10):
    """Read `source` and write the `top` most frequent words with their counts to `result`."""
    print("reading", source)
    words = collections.Counter()
    with pathlib.Path(source).open(encoding="utf-8") as file:
        for line in file:
            words.update(re.findall(r"[^\W\d_]+", line.lower()))
    log.info("%d words, %d different ones", sum(words.values()), len(words))
    if not words:
        log.warning("%s holds no words", source)
    most_frequent = dict(words.most_common(top))
    pathlib.Path(result).write_text(json.dumps(most_frequent, ensure_ascii=False, indent=2), encoding="utf-8")
    print("wrote", result)
