"""Links of a built site that lead nowhere: pages, anchors, pictures, scripts."""

import html.parser
import pathlib
import urllib.parse


class _Page(html.parser.HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.links.add(value)
            elif value and name in ("id", "name"):
                self.anchors.add(value)


def broken_links(site: pathlib.Path) -> list[str]:
    """A line for each link within the site whose target, or the anchor in it, is not there; in order.

    Args:
      site: folder of a built site. Its 404.html is left out: its links start at the site's address.
    """
    pages = {path.resolve(): _Page(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}
    found = []
    for path, page in sorted(pages.items()):
        for link in sorted(page.links):
            url = urllib.parse.urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / urllib.parse.unquote(url.path)).resolve() if url.path else path
            target = target / "index.html" if target.is_dir() else target
            anchor = urllib.parse.unquote(url.fragment)
            missing = anchor and target in pages and anchor not in pages[target].anchors
            if not target.exists() or missing:
                found.append(f"{path.relative_to(site.resolve())}: {link} leads nowhere")
    return found
