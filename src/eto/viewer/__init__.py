"""A local web application that shows runs. It reads, and never writes.

- `app`: pages by address
- `charts`: rewards and training curves as SVG
- `figures`: means and intervals from the index alone
- `filters`: filter expressions over episodes
- `guard`: who may ask: this machine, by its own names
- `index`: the episodes of a run, kept in memory by what is asked of them
- `library`: which runs there are
- `pages`: what each page shows

`templates` and `static` say how they look.
"""
