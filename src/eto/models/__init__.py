"""Models on disk and in memory: resolved, checked, loaded, adapted, saved.

- `adapters`: LoRA: fresh adapters, and foreign ones merged
- `architecture`: which models are supported, and how far their positions reach
- `checkpoint`: a model directory inspected before it is read
- `disk_room`: free space on the disk
- `dtype`: number types and devices
- `embedded`: the embedded model: verified, converted, cached
- `encoder`: turns as points by a language model
- `exporting`: a model as a folder for other programs
- `frozen`: frozen weights in fewer bytes, and adapters merged into them
- `loading`: model and tokenizer, every weight from the file or an error
- `logits`: hidden states to logits
- `one_at_a_time`: a lock around the loading of models
- `private_interfaces`: private names of torch and transformers, all in one place
- `probe`: a model checked against its own forward pass
- `saving`: a model written, after a check that it can be
- `shape`: sizes of a model, and a copy without weights, from its configuration alone
"""
