"""The FAQ quotes what the tool really says."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHORTEST_FRAGMENT = 6  # shorter ones, as " B", say nothing
HEADINGS = re.findall(r"^### (.+)$", (ROOT / "docs" / "faq.md").read_text(encoding="utf-8"), re.M)
MESSAGES = [heading for heading in HEADINGS if heading[0].islower() or heading[0] == "…"]


def source_text() -> str:
    """All string literals, joined where Python joins them."""
    sources = [*(ROOT / "tools").rglob("*.py"), *(ROOT / "compiler").rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    joined = re.sub(r'"\s*\n\s*f?"', "", text)
    return re.sub(r"\s+", " ", joined)


SOURCES = source_text()


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_of_the_faq_is_one_of_the_tool(message: str) -> None:
    fragments = [part.strip() for part in message.split("…")]
    known = [part for part in fragments if len(part) >= SHORTEST_FRAGMENT]
    assert known, message
    assert [part for part in known if part not in SOURCES] == []


def test_the_faq_quotes_messages() -> None:
    assert len(MESSAGES) > 10
