"""MkDocs hook: pages of the site that stand outside docs/, and the links to and from them."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Files of the repository to pages of the site."""
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages."""
    for source, target in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, target, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrites links between a page and files of the repository to links within the site."""
    sources = {target: source for source, target in PAGES.items()}
    site_path = page.file.src_uri
    source = sources.get(site_path, f"docs/{site_path}")

    def rewritten(match: re.Match[str]) -> str:
        before, link, after = match.groups()
        if "://" in link:
            return match.group()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        target = PAGES.get(path, path.removeprefix("docs/"))
        return before + posixpath.relpath(target, posixpath.dirname(site_path) or ".") + after

    return LINK.sub(rewritten, markdown)
