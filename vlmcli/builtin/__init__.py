"""The small model that ships inside, and the recipe that made it.

The model's own files (`config.json`, `model.safetensors`, the tokenizer, …) lie beside this one and
are loaded as those of any other model are. The rest is only needed to make them again:

    python -m vlmcli.builtin.train       draws pictures, trains, resumes, exports
    python -m vlmcli.builtin.evaluate    prints the figures of the model card

The layers, from the lowest: `fonts tokens` > `drawing words` > `pages charts shapes signs plots
sequences unknown` > `samples labels` > `heads ideal` > `model` > `batches checkpoints optimizers` >
`lessons supply export` > `train` > `parts evaluate`.
"""
