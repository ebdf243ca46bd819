"""The blocks of a document: found, run and blamed at their own lines."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from tests.documents import Namespace, blocks_of, python_blocks

TEXT = """\
# Title

```python
first = __name__
```

## One

````markdown
```python
not_a_block = True
# not a heading
```
````

```python title="example.py"
not_run = True
```

```
plain
```

### Two words ##

~~~python
import asyncio
await asyncio.sleep(0)
second = first + "!"  # é
~~~

## Three

```python
# {
#     "status": "up",  # or "down"
#     "rows": {}
# }
# {"a": 1}  # so far
# not {"shown": 1}
raise LookupError(second)
```
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "TEXT.md"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_only_python_blocks_are_found(path: Path) -> None:
    blocks = python_blocks(path)
    assert [(block.index, block.section, block.heading) for block in blocks] == [
        (0, "", "Title"),
        (1, "One", "Two words"),
        (2, "Three", "Three"),
    ]
    lines = TEXT.splitlines()
    for block in blocks:
        source = block.source.splitlines()
        assert lines[block.line - 1 :][: len(source)] == source


def test_every_block_is_found_with_its_info_string(path: Path) -> None:
    infos = [block.info for block in blocks_of(path)]
    assert infos == ["python", "markdown", 'python title="example.py"', "", "python", "python"]


async def test_blocks_run_in_the_namespace_they_are_given(path: Path) -> None:
    first, second, _ = python_blocks(path)
    namespace: Namespace = {}
    await first.run(namespace)
    await second.run(namespace)
    assert namespace["second"] == "TEXT!"


async def test_a_traceback_names_the_file_and_the_line(path: Path) -> None:
    block = python_blocks(path)[2]
    with pytest.raises(LookupError) as raised:
        await block.run({"second": "why"})
    frame = traceback.extract_tb(raised.tb)[-1]
    assert (frame.filename, frame.line) == (str(path), "raise LookupError(second)")


def test_a_syntax_error_names_the_line(path: Path) -> None:
    path.write_text("text\n\n```python\nfine = 1\nno fine\n```\n", encoding="utf-8")
    with pytest.raises(SyntaxError) as raised:
        python_blocks(path)[0].compiled()
    assert (raised.value.filename, raised.value.lineno) == (str(path), 5)


def test_the_dicts_in_comments_are_read(path: Path) -> None:
    blocks = python_blocks(path)
    assert blocks[0].shown() == []
    assert blocks[2].shown() == [{"status": "up", "rows": {}}, {"a": 1}]


def test_half_a_dict_in_comments_is_an_error(path: Path) -> None:
    path.write_text("```python\n# {\n#     1: 2,\n```\n", encoding="utf-8")
    with pytest.raises(ValueError, match="half a dict"):
        python_blocks(path)[0].shown()


def test_a_block_that_is_never_closed_is_an_error(path: Path) -> None:
    path.write_text("text\n\n```python\npass\n``\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"TEXT\.md:3: .* never closed"):
        python_blocks(path)
