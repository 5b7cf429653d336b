"""What a model's configuration alone tells: its sizes, and a copy without weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eto.errors import InputError
from eto.models.checkpoint import ADAPTER, CONFIG, GIVE, adapter_base


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a causal LM."""

    parameters: int
    trained: int
    """Parameters that training changes: all, or those of the adapters."""
    layers: int
    layer_parameters: int
    """Of the largest layer."""
    hidden: int
    vocabulary: int
    cache_numbers: int
    """Numbers that the cache of keys and values keeps of a token, all layers together."""
    linear: int = 0
    """Frozen parameters of linear layers but the output layer, which 4 bits may hold."""

    @property
    def frozen(self) -> int:
        """Parameters that training leaves as they are."""
        return self.parameters - self.trained


def config_folder(path: str) -> Path:
    """The directory whose config.json describes the model that a recipe's `model.path` names: a directory,
    `embedded`, or a Hub id. Raises `InputError` where there is none."""
    if path == "embedded":
        from eto.models.embedded import embedded_model

        return embedded_model()
    folder = Path(path).expanduser()
    if not (folder / CONFIG).is_file() and (folder / ADAPTER).is_file():
        return config_folder(adapter_base(folder))
    if folder.is_dir() or path.startswith((".", "/", "~")):
        if not (folder / CONFIG).is_file():
            raise InputError(f"there is no {CONFIG}", where=str(folder), hint=GIVE)
        return folder
    return _from_hub(path)


def empty_model(folder: Path, lora: Mapping[str, Any] | None = None) -> Any:
    """The model that `folder`/config.json describes, with fresh adapters where `lora` is given, without
    storage for its weights (torch's meta device). Needs no weights on the disk.

    Raises `InputError` for a configuration that cannot be read, is of no causal LM, or is not supported.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from eto.models.adapters import adapted
    from eto.models.architecture import check_architecture
    from eto.models.loading import UNREADABLE, brief, check_kind

    check_kind(str(folder))
    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except UNREADABLE as error:
        where = str(folder / CONFIG)
        raise InputError(f"no model can be made of it: {brief(error)}", where=where, hint=GIVE) from error
    check_architecture(model)
    if lora is None:
        return model
    with torch.device("meta"):
        return adapted(model, {**lora, "frozen": "float32"})


def shape_of(model: Any) -> ModelShape:
    """The sizes of `model`, which may be without storage."""
    config = model.config.get_text_config()
    layers = _layers(model, config.num_hidden_layers)
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = 2 * (getattr(config, "num_key_value_heads", None) or heads) * width
    return ModelShape(
        parameters=sum(weight.numel() for weight in model.parameters()),
        trained=sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
        layers=config.num_hidden_layers,
        layer_parameters=max(sum(weight.numel() for weight in layer.parameters()) for layer in layers),
        hidden=config.hidden_size,
        vocabulary=model.get_output_embeddings().weight.shape[0],
        cache_numbers=kept * config.num_hidden_layers,
        linear=sum(frozen_linear(model)),
    )


def frozen_linear(model: Any) -> list[int]:
    """Parameters of each frozen linear layer of `model` but the output layer."""
    import torch

    head = model.get_output_embeddings()
    layers = [each for each in model.modules() if type(each) is torch.nn.Linear and each is not head]
    return [each.weight.numel() for each in layers if not each.weight.requires_grad]


def _layers(model: Any, count: int) -> list[Any]:
    """The decoder's layers: the list of as many modules as the configuration states."""
    import torch

    lists = (module for module in model.modules() if isinstance(module, torch.nn.ModuleList))
    found = next((each for each in lists if len(each) == count), None)
    return [model] if found is None else list(found)


def _from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download

    from eto.models.loading import check_hub

    check_hub(name)
    return Path(hf_hub_download(name, CONFIG)).parent
