"""The report's looks: light, dark, narrow and printed. Nothing is loaded from anywhere."""

CSS = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #22262b; --soft: #626b77;
  --line: #e1e4e8; --box: #f4f5f6; --accent: #2f6fb7; --warn: #b4442f; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181c; --ink: #dfe3e8; --soft: #98a2af;
  --line: #2d333b; --box: #1d2127; --accent: #74aef0; --warn: #f08a72; } }
@media print { :root { color-scheme: light; --paper: #fff; --ink: #111; --soft: #555;
  --line: #ccc; --box: #f6f6f6; --accent: #2f6fb7; --warn: #a33; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; letter-spacing: -.01em;
  overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; padding-top: .75rem;
  border-top: 1px solid var(--line); }
h3 { font-size: .95rem; margin: 1.25rem 0 .4rem; }
p { margin: .5rem 0; max-width: 46rem; }
.lead { font-size: 1.2rem; line-height: 1.5; margin-bottom: 1.5rem; }
.soft, figcaption, caption { color: var(--soft); font-size: .875rem; }
.warn { color: var(--warn); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
caption { text-align: left; padding-bottom: .4rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem 1.25rem .3rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
thead th { color: var(--soft); font-weight: 600; white-space: nowrap; overflow-wrap: normal; }
td.number, th.number { text-align: right; white-space: nowrap; }
tbody th { font-weight: 500; }
.layers tbody th { white-space: nowrap; }
figure { margin: 1rem 0; }
figure svg, figure img { max-width: 100%; height: auto; display: block; }
figure.full svg { width: 100%; }
svg text { font-family: inherit !important; }
.pixels { image-rendering: pixelated; }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr));
  gap: 1.25rem 1rem; }
.mistakes figure { margin: 0; break-inside: avoid; }
.mistakes img { width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--box);
  border-radius: 4px; }
.mistakes figcaption { color: var(--ink); line-height: 1.35; margin-top: .35rem;
  overflow-wrap: anywhere; }
.mistakes small { display: block; color: var(--soft); font-size: .75rem; }
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr));
  gap: 1rem; }
.examples figure { margin: 0; break-inside: avoid; }
.examples figure div { display: grid; grid-template-columns: repeat(3, 1fr); gap: 3px; }
.examples img { width: 100%; border-radius: 3px; }
.examples small { display: block; font-size: .75rem; overflow-wrap: anywhere; }
.key span { white-space: nowrap; margin-right: .9rem; font-size: .875rem; }
.key i { display: inline-block; width: .8em; height: .8em; margin-right: .35em;
  border: 1px solid var(--line); }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr));
  gap: 0 2.5rem; align-items: start; }
.columns table { width: 100%; }
.columns tbody th { white-space: nowrap; width: 1%; color: var(--soft); font-weight: 400; }
pre { background: var(--box); border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0;
  padding: .7rem .9rem; overflow-x: auto; font: .82rem/1.5 ui-monospace, SFMono-Regular, Menlo,
  Consolas, "DejaVu Sans Mono", monospace; }
summary { cursor: pointer; color: var(--accent); margin: .75rem 0; }
li { overflow-wrap: anywhere; }
@media (max-width: 45rem) { main { padding: 1.5rem 1rem 3rem; } .lead { font-size: 1.08rem; }
  .columns { grid-template-columns: 1fr; } }
@media print { body { font-size: 11pt; } main { max-width: none; padding: 0; }
  h2 { break-after: avoid; } figure, tr, pre { break-inside: avoid; }
  pre { white-space: pre-wrap; } }
"""
