"""A page: a card as one HTML file that needs nothing else, and runs nothing.

Every word on it is escaped: names of columns and values of rows come from outside.  A policy in
the page itself forbids scripts and anything from elsewhere, should one ever slip through.
"""

import html
import math
from typing import Any

from ml_assets.card import Card, Section, Table

MOST_LETTERS = 120  # of one cell
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1f2430;--muted:#667085;--line:#e3e6ec;--soft:#f6f7f9;
--c0:#4f43dd;--c1:#d9480f;--c2:#0b7285;--c3:#2b8a3e;--c4:#a61e4d;--c5:#866118;--c6:#495057;--c7:#1971c2}
@media (prefers-color-scheme:dark){:root{--paper:#14161c;--ink:#e6e8ee;--muted:#9aa3b2;--line:#2c313c;
--soft:#1c2029;--c0:#9d94ff;--c1:#ff922b;--c2:#3bc9db;--c3:#69db7c;--c4:#f783ac;--c5:#e0b45c;--c6:#adb5bd;--c7:#74c0fc}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1120px;padding:28px 24px 60px;background:var(--paper);color:var(--ink);
font:14px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;overflow-wrap:break-word}
h1{font-size:24px;margin:0 0 4px}h2{font-size:16px;margin:34px 0 6px;padding-top:12px;border-top:1px solid var(--line)}
p{margin:4px 0 10px;color:var(--muted);max-width:80ch}
.told{display:flex;flex-wrap:wrap;gap:4px 18px;color:var(--muted)}
.tiles{display:flex;flex-wrap:wrap;gap:10px;margin:18px 0}
.tile{background:var(--soft);border:1px solid var(--line);border-radius:8px;padding:8px 14px;min-width:112px}
.tile b{display:block;font-size:20px;font-variant-numeric:tabular-nums}.tile span{color:var(--muted);font-size:12px}
.body{display:flex;flex-wrap:wrap;align-items:flex-start;gap:6px 32px}
.pictures{display:flex;flex-wrap:wrap;gap:14px;margin:10px 0}
.pictures svg{width:340px;max-width:100%;height:auto}.pictures svg.whole{width:1060px}
.wide{overflow-x:auto;margin:8px 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}
th,td{text-align:left;padding:4px 12px 4px 0;border-bottom:1px solid var(--line);vertical-align:top;max-width:420px}
th{color:var(--muted);font-weight:600;white-space:nowrap}.n{text-align:right;white-space:nowrap}
td.FAILED{color:var(--c1);font-weight:600}td.passed{color:var(--c3)}td.warns{color:var(--c5)}
svg text{font:11px system-ui,sans-serif;fill:var(--ink)}svg .t{font-weight:600}svg .m{fill:var(--muted)}
svg .g{stroke:var(--line);fill:none}svg .d{stroke:var(--muted);stroke-dasharray:4 3;fill:none}
svg .v{stroke:var(--c1);stroke-dasharray:2 2;fill:none}
svg polyline[class^=c],svg path[class^=c]{fill:none}svg polyline[class^=c]{stroke-width:1.8}
@media print{body{max-width:none;padding:0}h2{break-after:avoid}.tile,.pictures svg,tr{break-inside:avoid}
.wide{overflow:visible}}
""" + "".join(f"svg .c{i}{{stroke:var(--c{i})}}svg .f{i}{{fill:var(--c{i})}}" for i in range(8))


def page(card: Card) -> str:
    """It returns a card as one HTML document."""
    told = "".join(f"<span>{_said(t)}</span>" for t in card.told)
    tiles = "".join(
        f'<div class="tile"><b>{_said(value)}</b><span>{_said(name)}</span></div>'
        for name, value in card.tiles
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{_said(card.title)}</title><style>{_STYLE}</style></head><body>"
        f'<h1>{_said(card.title)}</h1><div class="told">{told}</div>'
        f'<div class="tiles">{tiles}</div>{"".join(map(_section, card.sections))}'
        "</body></html>\n"
    )


def _section(section: Section) -> str:
    note = f"<p>{_said(section.note, 2000)}</p>" if section.note else ""
    drawn = f'<div class="pictures">{"".join(section.pictures)}</div>' if section.pictures else ""
    tables = "".join(map(_table, section.tables))
    return f'<h2>{_said(section.name)}</h2>{note}<div class="body">{drawn}{tables}</div>'


def _table(table: Table) -> str:
    numbers = [any(_is_number(v) for v in column) for column in zip(*table.lines, strict=True)]
    numbers += [False] * (len(table.columns) - len(numbers))
    head = "".join(
        f"<th{' class=n' if n else ''}>{_said(c)}</th>"
        for c, n in zip(table.columns, numbers, strict=True)
    )
    body = "".join(f"<tr>{''.join(map(_cell, line))}</tr>" for line in table.lines)
    note = f"<p>{_said(table.note, 2000)}</p>" if table.note else ""
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table>{note}</div>'


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    if value in ("passed", "FAILED", "warns"):
        return f'<td class="{value}">{value}</td>'
    return f"<td{' class=n' if _is_number(value) else ''}>{_said(value)}</td>"


def _said(value: Any, most: int = MOST_LETTERS) -> str:
    """It returns a value as escaped text, cut; nothing where it is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        text = f"{value:.5g}"
    elif _is_number(value):
        text = f"{value:,}"
    else:
        text = " ".join(str(value).split())
    return html.escape(text if len(text) <= most else text[: most - 1] + "…")
