"""WebShop (Yao et al. 2022, arXiv:2207.01206): shopping by search and click, in this process alone.

- `arrays`: numpy arrays by name, mapped or in memory
- `cache`: stores in the user's cache, built once
- `catalogue`: the original's files, read in pieces
- `expert`: searches, inspects, selects, buys
- `generated`: a synthetic shop, by seed
- `goals`: what to buy, in the original's order
- `postings`: its index, built in bounded memory
- `products`: a product, as the original reads it
- `reward`: the reward of a purchase and its parts
- `scratch`: lookup tables of a build, on disk
- `search`: ranked search
- `shop`: pages as text, and what a click does
- `stemmer`: Porter's stemmer, as Lucene has it
- `store`: all products, on disk or in memory
- `suite`: its tasks, prompts and options
- `tagger`: the nouns of a title
- `word_classes`: character classes for tokenisation
- `words`: tokenisation as Lucene does it
"""
