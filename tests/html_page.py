"""A page of a report as a list of its elements, and what is wrong with its markup."""

from html.parser import HTMLParser

VOID = {"meta", "path", "use", "rect", "br", "line", "circle"}


class Page(HTMLParser):
    """Elements as (tag, attributes, text inside), and whether every one is closed in its place."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.faults = [], [], []
        self.feed(text)
        self.faults += [f"{tag} is not closed" for tag, _, _ in self.open]

    def handle_starttag(self, tag, attributes):
        element = (tag, dict(attributes), [])
        self.elements.append(element)
        if len(dict(attributes)) < len(attributes):
            self.faults.append(f"an attribute twice in {tag}")
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), []))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open[-1][0] != tag:
            self.faults.append(f"</{tag}> out of place")
        else:
            self.open.pop()

    def handle_data(self, data):
        for _, _, text in self.open:
            text.append(data)

    def all(self, tag):
        return [(attributes, "".join(text)) for name, attributes, text in self.elements if name == tag]


def rows_of(page):
    """Rows of all tables of the page as text."""
    rows = []
    for tag, _, text in page.elements:
        if tag == "tr":
            rows.append([])
        elif tag in ("td", "th"):
            rows[-1].append("".join(text))
    return rows
