"""Records on disk: the store, the codec, the formats of other programs, atomic files.

- `arrays`: numbers of episodes, kept with the mark of these
- `atomic`: files and directories that appear whole or not at all
- `checks`: typed access to the fields of JSON objects
- `codec`: dataclasses as JSON and back, each error with its place
- `columns`: the columns of written tables
- `exports`: records in other tools' forms, and what each carries
- `files`: small files that survive a kill
- `formats`: trajectory and pair files in any known format
- `hashed_words`: texts as vectors without a model
- `inspect_log`: episodes as logs of Inspect
- `inspect_samples`: an episode as a sample of such a log
- `items`: one item of any known form as a record
- `jsonfiles`: JSON files, read with line numbers
- `jsontext`: JSON from elsewhere, parsed with exact errors
- `notes`: what a reader ignored, dropped or replaced, counted
- `oserrors`: `OSError` as problem, place and hint
- `pair_scores`: log-probs of the turns of pairs before and after training
- `records`: the project's own JSON format of trajectories and pairs
- `reference_pairs`: the pair rules of the authors' code, for comparison
- `retrieval`: a memory of all trajectories, and how what is in it is found
- `sinks`: files that items are written to one at a time
- `store_files`: how a store is opened to be read
- `store`: trajectories of a run in SQLite, committed one by one
- `stored`: episodes of a store, read one at a time
- `tables`: Parquet, Arrow and saved data sets
- `textlines`: lines of text files, compressed or not
- `texts`: text from elsewhere: valid Unicode, no control sequences
"""
