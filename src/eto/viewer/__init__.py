"""A local web application that shows runs. It reads, and never writes.

- `app`: pages by address
- `charts`: rewards, training curves and changes of log-probs as SVG
- `figures`: means and intervals from the index alone
- `filters`: filter expressions over episodes
- `guard`: who may ask: this machine, by its own names
- `index`: the episodes of a run, kept in memory by what is asked of them
- `library`: which runs there are
- `look`: how pages are written, and what links lead to
- `pages`: what each page shows
- `pooled`: figures of several runs
- `report`: a sample of the pages of a run, or of several, as one HTML file
- `sample`: which pages that holds, and by what they are chosen
- `tokens`: episodes as tokens, those with loss marked
- `turns`: turns side by side, and what training made of them

`templates` and `static` say how they look.
"""
