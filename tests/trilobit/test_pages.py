"""The pages: links lead somewhere, commands have the options that pages give them, and every option and page can be found."""

import re
from pathlib import Path

import click
import pytest

from trilobit import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def links(page: Path) -> list[tuple[Path, str]]:
    """Files that a page links to, and the anchors there."""
    found = []
    for target in LINK.findall(prose(page)):
        if not target.startswith(("http:", "https:")):
            path, _, anchor = target.partition("#")
            found.append(((page.parent / path).resolve() if path else page, anchor))
    return found


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading.strip().lower())).replace(" ", "-") for heading in headings
    }


def verbs(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    """Every command by its whole name, those of groups as well."""
    context, found = click.Context(group), {}
    for name in group.list_commands(context):
        verb = group.get_command(context, name)
        assert verb is not None
        found |= verbs(verb, f"{name} ") if isinstance(verb, click.Group) else {f"{prefix}{name}": verb}
    return found


VERBS = verbs(cli.main)


def options(verb: click.Command) -> set[str]:
    return {"-h", "--help"} | {option for parameter in verb.params if isinstance(parameter, click.Option) for option in parameter.opts}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    for path, anchor in links(page):
        assert path.exists(), f"{path} is not there"
        assert not anchor or anchor in anchors(path), f"{path} has no heading #{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_on_a_page_have_the_options_they_are_given(page):
    names = "|".join(sorted(VERBS, key=len, reverse=True))
    for name, rest in re.findall(rf"\btrilobit ({names})\b([^\n`#]*)", page.read_text()):
        given = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", rest))
        assert given <= options(VERBS[name]), f"trilobit {name}{rest}: {sorted(given - options(VERBS[name]))}"


@pytest.mark.parametrize("name", VERBS)
def test_every_option_is_on_a_page(name):
    if not (ROOT / "docs").is_dir():
        pytest.skip("installed without docs/")
    text = "\n".join(page.read_text() for page in PAGES)
    for parameter in VERBS[name].params:
        if isinstance(parameter, click.Option):
            assert any(re.search(rf"(?<![\w-]){option}(?![\w-])", text) for option in parameter.opts), f"trilobit {name} {parameter.opts}"


def test_every_page_is_linked_from_the_list_of_pages():
    start = ROOT / "docs" / "README.md"
    if not start.is_file():
        pytest.skip("installed without docs/")
    listed = {path for path, _ in links(start)} | {start}
    missing = [str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md") if page not in listed]
    assert not missing, f"not in docs/README.md: {missing}"
