import pytest

from vlmcli.models import files


@pytest.mark.parametrize(
    ("listed", "weights"),
    [
        (["model.safetensors", "model-00001-of-00001.safetensors"], ["model.safetensors"]),
        (["a-1.safetensors", "a-2.safetensors", "consolidated.safetensors"], "a-1 a-2"),
        (["consolidated-00001-of-00001.safetensors"], ["consolidated-00001-of-00001.safetensors"]),
        (["model.fp16.safetensors", "model.fp16-1-of-2.safetensors", "m.safetensors"], "m"),
        (["pytorch_model.bin", "model.gguf", "tf_model.h5", "checkpoint-9/model.safetensors"], []),
    ],
)
def test_one_set_of_weights_is_wanted(listed, weights):
    if isinstance(weights, str):
        weights = [f"{stem}.safetensors" for stem in weights.split()]
    assert files.wanted_files(listed) == weights


def test_texts_at_the_top_are_wanted_and_code_is_not():
    wanted = ["config.json", "merges.txt", "tokenizer.model", "chat_template.jinja", "tekken.json"]
    template = "additional_chat_templates/tool.jinja"
    other = ["modeling.py", "README.md", "onnx/config.json", "original/params.json", "x.onnx"]
    assert files.wanted_files([*wanted, *other, template]) == [*wanted, template]


def test_weights_are_there_when_every_shard_of_the_index_is(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}')
    (tmp_path / "1.safetensors").touch()
    assert not files.holds_weights(tmp_path)
    (tmp_path / "2.safetensors").touch()
    assert files.holds_weights(tmp_path)
    index.write_text('{"weight_map": {"a"')
    assert not files.holds_weights(tmp_path)
    index.unlink()
    assert files.holds_weights(tmp_path)


def test_pickles_are_wanted_where_they_are_allowed_and_there_is_nothing_else():
    shards = [f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
    pickled = ["config.json", *shards, "pytorch_model.bin.index.json"]
    rest = ["training_args.bin", "optimizer.bin", "modeling_x.py", "rng_state.pth"]
    assert files.wanted_files([*pickled, *rest]) == ["config.json"]
    allowed = files.Need(pickles=True)
    assert sorted(files.wanted_files([*pickled, *rest], allowed)) == sorted(pickled)
    assert "model.safetensors" in files.wanted_files(["model.safetensors", *pickled], allowed)
    assert pickled[1] not in files.wanted_files(["model.safetensors", *pickled], allowed)


def test_code_is_wanted_only_where_it_is_asked_for():
    listed = ["config.json", "modeling_x.py", "parts/inner.py"]
    assert files.wanted_files(listed) == ["config.json"]
    assert files.wanted_files(listed, files.Need(code=True)) == listed
