"""One self-contained HTML page per run: what the model relies on, how the evidence forms, what to read.

`build` writes it. Inside, data flows one way: `data`, and `pictures` for runs on images, read the warehouse
(SQL in `sql/`) into the plain values of `model`; `sample` chooses the documents, `heat` cuts texts into words;
`prose`, `charts`, `maps` and `payload` say, draw and pack them; `terms` has what texts and images, classes and
outputs are called; `render` puts all on the page: `template.html.j2` with `words.html.j2` or `regions.html.j2`,
`report.css` with `images.css`, and `page.js`, `texts.js` or `images.js`, `explorer.js`.

`since` reads what the first screen says of gates, changes and watched terms (`since.html.j2`, `watched.html.j2`).
`changes.build` writes the page of a comparison of two runs: `changes_data` reads it, `changes_prose` says it, `arrows`
and `shifts` draw words and layers. `trend.build` writes the page of an audit's history: `trend_data` reads the nights,
`night_charts` draws them, one column a run.

`evaluation.build` writes the page of an evaluation on the same base (`base.html.j2`, `page`): `evaluation_data` reads
it, `measures` knows its metrics, `standings` finds the best and says the verdict, `comparison` and `intervals` draw,
`evaluation_payload` packs the documents.
"""

from calig.report.build import build

__all__ = ["build"]
