"""One self-contained HTML page per run: what the model relies on, how the evidence forms, what to read.

`build` writes it. Inside, data flows one way: `data` reads the warehouse (SQL in `sql/`) into the plain
values of `model`; `sample` chooses the documents, `heat` cuts them into words; `prose`, `charts` and
`payload` say, draw and pack them; `render` puts them on the page (`template.html.j2`, `report.css`,
`page.js`, `explorer.js`).
"""

from calig.report.build import build

__all__ = ["build"]
