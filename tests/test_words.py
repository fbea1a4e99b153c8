"""Texts are in plain English: no phrase is used that CONTRIBUTING.md has a better one for."""

import io
import pathlib
import re
import tokenize

import pytest

ROOT = pathlib.Path(__file__).parent.parent
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
#: The left column of the table: rows of phrases in quotation marks.
ROWS = re.findall(r"^\| “(.+)” \| .+ \|$", CONTRIBUTING, re.MULTILINE)
PHRASES = [phrase for row in ROWS for phrase in row.split("”, “")]
#: Phrases that are harmless among some words, or have another form.
FORMS = {
    "is no": r"(?<!there )is\s+no(?! (longer|more|such|better|worse|substitute)\b)",
    "data set": r"data\s+sets?",
}


def _pattern(phrase):
    words = FORMS.get(phrase.lower(), re.escape(phrase).replace(r"\ ", r"\s+"))
    start = r"(?<![\w-])" if phrase[0].isalpha() else ""
    return re.compile(rf"{start}{words}(?!\w)", re.IGNORECASE)


PATTERNS = [_pattern(phrase) for phrase in PHRASES]


def prose(path):
    """What a person reads: comments and strings of Python, pages without code, and other files."""
    text = path.read_text()
    if path.suffix == ".md":
        text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
        return re.sub(r"`[^`\n]+`", "", text)
    if path.suffix == ".py":
        kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None)}
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        words = "\n".join(token.string for token in tokens if token.type in kinds)
        return re.sub(r'"\n\s*f?"|\n# ', " ", words)  # Sentences continue on the next line.
    if path.suffix == ".html":
        return re.sub("<[^>]*>", "", text)
    return text


def found(text):
    """The phrases of a text that have a better one."""
    return sorted({match.group() for pattern in PATTERNS for match in pattern.finditer(text)})


FOLDERS = ("benchmarks", "docs", "examples", "l2rkd_command", "l2rkd_tf", "studies", "tests")
KINDS = {".md", ".py", ".html", ".js", ".mjs", ".jinja", ".yml"}


def pages(folder):
    """The files of a folder that people read; `.` has those at the top."""
    paths = (ROOT / folder).glob("*") if folder == "." else (ROOT / folder).rglob("*")
    made = {"node_modules", "dist", "__pycache__"}
    return [
        path
        for path in paths
        if path.suffix in KINDS
        and not made & set(path.parts)
        and path.name not in {"CONTRIBUTING.md", "test_words.py"}
    ]


@pytest.mark.parametrize("folder", [".", *FOLDERS])
def test_texts_use_no_phrase_that_has_a_better_one(folder):
    bad = {str(path.relative_to(ROOT)): found(prose(path)) for path in pages(folder)}
    assert bad and not {name: phrases for name, phrases in bad.items() if phrases}


def test_phrases_are_found_where_people_read():
    assert len(PHRASES) > 25
    text = "A net" + " is\nno model of the" + " data" + "  sets" + ", " + "too."
    assert found(text) == [", too", "data  sets", "is\nno"]
    assert not found("There is no dataset any more; it is no longer here.")
