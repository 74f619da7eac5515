"""A page written once, rendered as HTML (self-contained, light, dark, print) and as Markdown.

Text may hold ``**bold**``, ``` `code` ``` and, in cells of tables, line breaks.
"""

import base64
import re
from html import escape
from pathlib import Path
from typing import NamedTuple

CSS = Path(__file__).resolve().parents[1] / "quickstart" / "report.css"
MORE_CSS = """
body { max-width: 70rem; }
h3 { font-size: 1.02rem; margin: 1.8rem 0 .4rem; }
p, ul, .notice, figcaption, caption { max-width: 54rem; }
nav { font-size: .92rem; margin: 1rem 0; } nav a { margin-right: 1rem; white-space: nowrap; }
a { color: var(--blue); }
th { vertical-align: bottom; line-height: 1.3; } td { line-height: 1.4; }
table { font-size: .9rem; } td, th { padding: .36rem .55rem; }
td { font-variant-numeric: tabular-nums; } .w { white-space: nowrap; }
tr.group td { font-weight: 650; padding-top: .9rem; border-bottom: 2px solid var(--grid); }
.v3 { color: var(--muted); font-style: italic; font-weight: 400; }
figure { max-width: 50rem; } figure img { display: block; max-width: 100%; height: auto; }
@media print {
  body { font-size: 8.5pt; } table, th, caption, figcaption { font-size: 7.6pt; }
  .tiles { grid-template-columns: repeat(5, 1fr); } .scroll { overflow: visible; }
  nav { display: none; } figure svg { max-height: 23cm; } h3 { break-after: avoid; }
}
"""


class Heading(NamedTuple):
    """A section; `anchor` puts it into the list at the top, up to its first full stop."""

    text: str
    anchor: str = ""
    level: int = 2


class Paragraph(NamedTuple):
    """Running text; `notice` frames it."""

    text: str
    notice: bool = False


class Bullets(NamedTuple):
    """A list."""

    items: list


class Tiles(NamedTuple):
    """Figures to take away: (big, small) pairs."""

    items: list


class Table(NamedTuple):
    """A table: rows are lists of texts, or one text that heads the rows below it.

    ``right`` are the columns to align right.
    """

    head: list
    rows: list
    caption: str = ""
    right: tuple = ()


class Figure(NamedTuple):
    """A picture with the command that makes it; without one none is shown."""

    label: str
    caption: str
    command: str
    png: str  # path relative to the page
    svg: str = ""  # for the HTML page; the PNG stands in where there is none
    png_bytes: bytes = b""


class Code(NamedTuple):
    """Commands; `summary` folds them away in HTML, ``only="html"`` leaves them out of Markdown."""

    text: str
    summary: str = ""
    only: str = ""


def html(title, blocks, emphasis=()):
    """The blocks as a page.

    Arguments
    ---------
    title : str
    blocks : list
        Of the classes above.
    emphasis : sequence of str
        A cell that is exactly the n-th of these gets the style sheet's class ``v<n>``.
    """
    style = CSS.read_text(encoding="utf-8") + MORE_CSS
    anchors = [block for block in blocks if isinstance(block, Heading) and block.anchor]
    links = " ".join(f'<a href="#{b.anchor}">{_inline(b.text.split(".")[0])}</a>' for b in anchors)
    parts = [_html_block(block, emphasis) for block in blocks]
    if links:
        parts.insert(1, f"<nav>{links}</nav>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def markdown(title, blocks):
    """The blocks as a Markdown text."""
    shown = [block for block in blocks if getattr(block, "only", "") != "html"]
    return f"# {title}\n\n" + "\n\n".join(map(_markdown_block, shown)) + "\n"


def _html_block(block, emphasis):
    if isinstance(block, Heading):
        anchor = f' id="{block.anchor}"' if block.anchor else ""
        return f"<h{block.level}{anchor}>{_inline(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        text = _inline(block.text)
        return f'<div class="notice">{text}</div>' if block.notice else f"<p>{text}</p>"
    if isinstance(block, Bullets):
        return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in block.items) + "</ul>"
    if isinstance(block, Tiles):
        boxes = (
            f'<div class="tile"><b>{_inline(big)}</b><span>{_inline(small)}</span></div>'
            for big, small in block.items
        )
        return f'<div class="tiles">{"".join(boxes)}</div>'
    if isinstance(block, Table):
        return _html_table(block, emphasis)
    if isinstance(block, Figure):
        return _html_figure(block)
    code = f"<pre><code>{escape(block.text)}</code></pre>"
    if block.summary:
        return f"<details><summary>{_inline(block.summary)}</summary>{code}</details>"
    return code


def _html_table(table, emphasis):
    def cells(row, tag):
        for place, text in enumerate(row):
            kinds = ["n"] if place in table.right else []
            if text in emphasis:
                kinds += ["verdict", f"v{emphasis.index(text)}"]
            kind = f' class="{" ".join(kinds)}"' if kinds else ""
            yield f"<{tag}{kind}>{_inline(text)}</{tag}>"

    head = "".join(cells(table.head, "th"))
    rows = []
    for row in table.rows:
        if isinstance(row, str):
            rows.append(
                f'<tr class="group"><td colspan="{len(table.head)}">{_inline(row)}</td></tr>'
            )
        else:
            rows.append(f"<tr>{''.join(cells(row, 'td'))}</tr>")
    caption = f"<caption>{_inline(table.caption)}</caption>" if table.caption else ""
    body = "\n".join(rows)
    return (
        f'<div class="scroll"><table>{caption}\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _html_figure(figure):
    label = escape(figure.label, quote=True)
    if figure.svg:
        picture = figure.svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    else:
        data = base64.b64encode(figure.png_bytes).decode()
        picture = f'<img alt="{label}" src="data:image/png;base64,{data}">'
    caption = f"<figcaption>{_inline(figure.caption)}</figcaption>"
    return f"<figure>{picture}{caption}</figure>\n<pre><code>{escape(figure.command)}</code></pre>"


def _inline(text):
    """Escaped text with bold, code and line breaks."""
    text = escape(text, quote=False)
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    text = re.sub(r"`(.+?)`", r"<code>\1</code>", text)
    text = re.sub(r"\b([A-Za-z]+-\d+)\b", r'<span class="w">\1</span>', text)  # Vesper-12
    return text.replace("\n", "<br>")


def _markdown_block(block):
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Paragraph):
        return f"> {block.text}" if block.notice else block.text
    if isinstance(block, Bullets):
        return "\n".join(f"- {item}" for item in block.items)
    if isinstance(block, Tiles):
        return "\n".join(f"- **{big}** {small}" for big, small in block.items)
    if isinstance(block, Table):
        return _markdown_table(block)
    if isinstance(block, Figure):
        command = "\n".join("    " + line for line in block.command.splitlines())
        return f"![{block.label}]({block.png})\n\n{block.caption}\n\n{command}"
    lines = "\n".join("    " + line for line in block.text.splitlines())
    return f"{block.summary}:\n\n{lines}" if block.summary else lines


def _markdown_table(table):
    def line(row):
        cells = (text.replace("|", "\\|").replace("\n", "<br>") for text in row)
        return f"| {' | '.join(cells)} |"

    width = len(table.head)
    rule = ["---:" if place in table.right else "---" for place in range(width)]
    rows = [
        line([f"**{row}**"] + [""] * (width - 1)) if isinstance(row, str) else line(row)
        for row in table.rows
    ]
    text = "\n".join([line(table.head), f"|{'|'.join(rule)}|", *rows])
    return f"{text}\n\n{table.caption}" if table.caption else text
